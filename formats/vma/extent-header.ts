// SPDX-License-Identifier: MIT
// The 512 bytes before the blocks of an extent (SPEC.md §3).

import { asBuffer, bytesEqual } from '../../src/base/bytes.js';
import { refusalOf } from '../vmar/fields.js';
import { MD5_BYTES, md5, md5Without } from './fields.js';
import { CLUSTERS_PER_EXTENT, EXTENT_HEADER_BYTES, WRITTEN_CLUSTERS_PER_EXTENT } from './limits.js';

export const EXTENT_MAGIC: Uint8Array = Uint8Array.of(0x56, 0x4d, 0x41, 0x45);
const AT = { reserved: 4, blockCount: 6, uuid: 8, md5: 24, entries: 40 } as const;
const ENTRY_BYTES = 8;

/** A cluster of an extent: its present blocks follow those of the entry before it. */
export interface ExtentEntry {
  readonly device: number;
  readonly cluster: number;
  /** Bit i: block i is present. */
  readonly mask: number;
  /** Of the entry, in the file. */
  readonly offsetBytes: number;
}

/** The header of an extent that fills with clusters: at most as many as the real tool puts there. */
export class ExtentHeaderDraft {
  readonly #bytes = Buffer.alloc(EXTENT_HEADER_BYTES);
  #at: number = AT.entries;
  #blocks = 0;

  constructor(uuid: Uint8Array) {
    this.#bytes.set(EXTENT_MAGIC, 0);
    this.#bytes.set(uuid, AT.uuid);
  }

  get isEmpty(): boolean {
    return this.#at === AT.entries;
  }

  get isFull(): boolean {
    return this.#at === AT.entries + WRITTEN_CLUSTERS_PER_EXTENT * ENTRY_BYTES;
  }

  /** The blocks that the mask names follow those of the cluster before it. */
  add(device: number, cluster: number, mask: number): void {
    this.#bytes.writeUInt16BE(mask, this.#at);
    this.#bytes[this.#at + 3] = device;
    this.#bytes.writeUInt32BE(cluster, this.#at + 4);
    this.#blocks += countBits(mask);
    this.#at += ENTRY_BYTES;
  }

  /** Puts the header at the start of `into`, and begins the next one. */
  finish(into: Uint8Array): void {
    const bytes = this.#bytes;
    bytes.writeUInt16BE(this.#blocks, AT.blockCount);
    bytes.fill(0, AT.md5, AT.md5 + MD5_BYTES);
    bytes.set(md5(bytes), AT.md5);
    into.set(bytes);
    bytes.fill(0, AT.entries, this.#at);
    this.#at = AT.entries;
    this.#blocks = 0;
  }
}

/** @throws DamageError at `offsetBytes`, where the extent begins in the file */
export function decodeExtentHeader(
  first512: Uint8Array,
  uuid: Uint8Array,
  place: { readonly object: string; readonly offsetBytes: number },
): ExtentEntry[] {
  const refuse = refusalOf('vma-extent', place);
  const bytes = asBuffer(first512);
  if (!bytesEqual(bytes.subarray(0, 4), EXTENT_MAGIC)) throw refuse('what stands here is no extent of the archive');
  if (!bytesEqual(md5Without(bytes, AT.md5), bytes.subarray(AT.md5, AT.md5 + MD5_BYTES))) {
    throw refuse('the checksum of an extent does not match');
  }
  if (!bytesEqual(bytes.subarray(AT.uuid, AT.uuid + 16), uuid)) throw refuse('an extent is of another archive');
  if (bytes.readUInt16BE(AT.reserved) !== 0) throw refuse('an extent is not laid out as its version says');
  const entries: ExtentEntry[] = [];
  let blocks = 0;
  for (let at: number = AT.entries; at < AT.entries + CLUSTERS_PER_EXTENT * ENTRY_BYTES; at += ENTRY_BYTES) {
    const device = bytes[at + 3] ?? 0;
    if (device === 0) continue;
    const mask = bytes.readUInt16BE(at);
    entries.push({ device, cluster: bytes.readUInt32BE(at + 4), mask, offsetBytes: place.offsetBytes + at });
    blocks += countBits(mask);
  }
  const blockCount = bytes.readUInt16BE(AT.blockCount);
  if (blocks !== blockCount) {
    throw refuse('the clusters of an extent do not add up to its length', {
      expected: `${blockCount} blocks`,
      found: `${blocks} blocks`,
    });
  }
  return entries;
}

export function countBits(mask: number): number {
  let bits = mask - ((mask >>> 1) & 0x5555);
  bits = (bits & 0x3333) + ((bits >>> 2) & 0x3333);
  bits = (bits + (bits >>> 4)) & 0x0f0f;
  return (bits + (bits >>> 8)) & 0x1f;
}
