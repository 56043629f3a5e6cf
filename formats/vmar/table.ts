// SPDX-License-Identifier: MIT
// The tables of a container's trailer (SPEC.md §4.3): entries in pages, each page with a seal of its own.

import { asBuffer, bytesEqual } from '../../src/base/bytes.js';
import { DamageError } from '../../src/base/errors.js';
import { frameProblem } from './extent-checks.js';
import { checkLength, getSize, isZeroField, putBytes, putSize, refusalOf } from './fields.js';
import { type HashName, ID_BYTES, MAX_CHUNK_KIND, SEAL_BYTES, sealer } from './hash.js';
import { MAX_EXTENT_CHUNKS, MAX_FRAME_BYTES, MAX_MANIFEST_BYTES } from './limits.js';

export const TABLE_CHUNK_BYTES = 48;
export const TABLE_FRAME_BYTES = 40;
export const CHUNKS_PER_PAGE = 341;
export const FRAMES_PER_PAGE = 409;

/** Where a chunk lies. */
export interface TableChunk {
  /** 32 bytes. */
  readonly id: Uint8Array;
  /** Its frame's number in the frame table. */
  readonly frame: number;
  /** In the frame's raw bytes. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly kind: number;
}

/** Where a frame lies. */
export interface TableFrame {
  /** Of the stored bytes, in the container. */
  readonly offsetBytes: number;
  readonly storedBytes: number;
  readonly rawBytes: number;
  readonly chunkCount: number;
  readonly codec: 0 | 1;
  /** 16 bytes. */
  readonly seal: Uint8Array;
}

/** Where page `page` of a table lies in the container. */
export function tablePageOffset(tableOffset: number, page: number, entryBytes: number, perPage: number): number {
  return tableOffset + page * (entryBytes * perPage + SEAL_BYTES);
}

/** Length of a whole table with its seals. */
export function tableBytes(count: number, entryBytes: number, perPage: number): number {
  return count * entryBytes + Math.ceil(count / perPage) * SEAL_BYTES;
}

export function encodeTableChunk(chunk: TableChunk, into: Uint8Array, at: number): void {
  const bytes = asBuffer(into);
  putBytes(bytes, at, chunk.id, ID_BYTES);
  bytes.writeUInt32LE(chunk.frame, at + 32);
  bytes.writeUInt32LE(chunk.offsetBytes, at + 36);
  bytes.writeUInt32LE(chunk.lengthBytes, at + 40);
  bytes.writeUInt32LE(chunk.kind, at + 44);
}

export function encodeTableFrame(frame: TableFrame, into: Uint8Array, at: number): void {
  const bytes = asBuffer(into);
  putSize(bytes, at, frame.offsetBytes);
  bytes.writeUInt32LE(frame.storedBytes, at + 8);
  bytes.writeUInt32LE(frame.rawBytes, at + 12);
  bytes.writeUInt32LE(frame.chunkCount, at + 16);
  bytes.writeUInt32LE(frame.codec, at + 20);
  putBytes(bytes, at + 24, frame.seal, SEAL_BYTES);
}

/**
 * One entry of an opened page; its id is a view.
 * @throws DamageError for an entry that no writer makes
 */
export function decodeTableChunk(entries: Uint8Array, at: number, object?: string): TableChunk {
  const bytes = asBuffer(entries);
  const offsetBytes = bytes.readUInt32LE(at + 36);
  const lengthBytes = bytes.readUInt32LE(at + 40);
  // The kind and the three zero bytes behind it.
  const kind = bytes.readUInt32LE(at + 44);
  if (lengthBytes < 1 || offsetBytes + lengthBytes > MAX_FRAME_BYTES || kind > MAX_CHUNK_KIND) {
    throw impossible('chunk', `${lengthBytes} bytes from ${offsetBytes}, kind ${kind}`, object);
  }
  return { id: bytes.subarray(at, at + ID_BYTES), frame: bytes.readUInt32LE(at + 32), offsetBytes, lengthBytes, kind };
}

/**
 * One entry of an opened page; its seal is a view.
 * @throws DamageError for an entry that no writer makes
 */
export function decodeTableFrame(entries: Uint8Array, at: number, object?: string): TableFrame {
  const bytes = asBuffer(entries);
  const codec = bytes[at + 20]!;
  const frame: TableFrame = {
    offsetBytes: getSize(bytes, at),
    storedBytes: bytes.readUInt32LE(at + 8),
    rawBytes: bytes.readUInt32LE(at + 12),
    chunkCount: bytes.readUInt32LE(at + 16),
    codec: codec === 0 ? 0 : 1,
    seal: bytes.subarray(at + 24, at + 24 + SEAL_BYTES),
  };
  // Only a manifest's frame is longer than 4 MiB, and it holds one chunk.
  const problem = frameProblem(frame, frame.chunkCount === 1 ? MAX_MANIFEST_BYTES : MAX_FRAME_BYTES);
  if (problem !== undefined) throw impossible('frame', problem, object);
  if (codec > 1 || !isZeroField(bytes, at + 21, at + 24)) throw impossible('frame', `codec ${codec}`, object);
  if (frame.chunkCount < 1 || frame.chunkCount > MAX_EXTENT_CHUNKS || !Number.isFinite(frame.offsetBytes)) {
    throw impossible('frame', `${frame.chunkCount} chunks at ${frame.offsetBytes}`, object);
  }
  return frame;
}

function impossible(entry: string, found: string, object: string | undefined): DamageError {
  const facts = object === undefined ? { found } : { found, object };
  return new DamageError('table-damaged', `a table names an impossible ${entry}`, facts);
}

/** The seal that follows a page's entries. */
export function sealTablePage(
  hash: HashName,
  containerId: Uint8Array,
  pageOffset: number,
  entries: Uint8Array,
): Uint8Array {
  const offset = Buffer.alloc(8);
  putSize(offset, 0, pageOffset);
  return sealer(hash)(containerId, offset, entries);
}

/**
 * The entries, a view, of a page of entries and seal.
 * @throws DamageError if the seal does not match
 */
export function openTablePage(
  page: Uint8Array,
  hash: HashName,
  containerId: Uint8Array,
  pageOffset: number,
  object: string,
): Uint8Array {
  const refuse = refusalOf('table-damaged', { object, offsetBytes: pageOffset });
  checkLength(page, SEAL_BYTES, 'a page of a table', refuse);
  const end = page.byteLength - SEAL_BYTES;
  const entries = page.subarray(0, end);
  const seal = sealTablePage(hash, containerId, pageOffset, entries);
  if (!bytesEqual(seal, page.subarray(end))) throw refuse('the seal of a page of a table does not match');
  return entries;
}
