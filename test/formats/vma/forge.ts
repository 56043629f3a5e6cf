// SPDX-License-Identifier: MIT
// Archives of any kind, their checksums right: what a hostile or sloppy writer could make. Knows the layout by itself.

import { createHash } from 'node:crypto';

export const UUID = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
export const CLUSTER = 65536;
export const BLOCK = 4096;

export interface ForgedHeader {
  readonly uuid?: Uint8Array;
  readonly version?: number;
  readonly blobOffset?: number;
  readonly blobSize?: number;
  /** The blob buffer, from its first byte. */
  readonly blobs: Uint8Array;
  /** No padding to 512 unless given so. */
  readonly headerSize?: number;
  readonly configs?: readonly (readonly [name: number, data: number])[];
  readonly devices?: readonly (readonly [id: number, name: number, size: bigint])[];
  /** Called before the checksum is set. */
  readonly change?: (bytes: Buffer) => void;
}

export function forgeHeader(header: ForgedHeader): Buffer {
  const blobOffset = header.blobOffset ?? 12288;
  const headerSize = header.headerSize ?? Math.ceil((blobOffset + header.blobs.byteLength) / 512) * 512;
  const bytes = Buffer.alloc(headerSize);
  bytes.write('VMA\0', 0, 'latin1');
  bytes.writeUInt32BE(header.version ?? 1, 4);
  bytes.set(header.uuid ?? UUID, 8);
  bytes.writeUInt32BE(blobOffset, 48);
  bytes.writeUInt32BE(header.blobSize ?? header.blobs.byteLength, 52);
  bytes.writeUInt32BE(headerSize, 56);
  bytes.set(header.blobs.subarray(0, Math.max(0, headerSize - blobOffset)), Math.min(blobOffset, headerSize));
  for (const [index, [name, data]] of (header.configs ?? []).entries()) {
    bytes.writeUInt32BE(name, 2044 + 4 * index);
    bytes.writeUInt32BE(data, 3068 + 4 * index);
  }
  for (const [id, name, size] of header.devices ?? []) {
    bytes.writeUInt32BE(name, 4096 + 32 * id);
    bytes.writeBigUInt64BE(size, 4096 + 32 * id + 8);
  }
  header.change?.(bytes);
  return sealHeader(bytes);
}

/** Blobs end to end after the padding byte, and the pointers to them. */
export function forgeBlobs(...contents: readonly (string | Uint8Array)[]): { blobs: Buffer; pointers: number[] } {
  let blobs = Buffer.alloc(1);
  const pointers: number[] = [];
  for (const content of contents) {
    pointers.push(blobs.byteLength);
    const bytes = Buffer.from(content as Uint8Array);
    blobs = Buffer.concat([blobs, Buffer.of(bytes.byteLength & 0xff, bytes.byteLength >>> 8), bytes]);
  }
  return { blobs, pointers };
}

/** A header with disks of these sizes, ids from 1, called d1, d2, … unless a name is given. */
export function forgeDisks(sizes: readonly number[], names: readonly string[] = []): Buffer {
  const { blobs, pointers } = forgeBlobs(...sizes.map((_, index) => `${names[index] ?? `d${index + 1}`}\0`));
  const devices = sizes.map((size, index) => [index + 1, pointers[index]!, BigInt(size)] as const);
  return forgeHeader({ blobs, devices });
}

export type ForgedEntry = readonly [device: number, cluster: number, mask: number];

/** An extent whose blocks are filled with their number in the extent, from 1. */
export function forgeExtent(
  entries: readonly ForgedEntry[],
  options: { uuid?: Uint8Array; blocks?: number; blockCount?: number; change?: (bytes: Buffer) => void } = {},
): Buffer {
  const counted = entries.reduce((sum, [device, , mask]) => sum + (device === 0 ? 0 : popcount(mask)), 0);
  const blocks = options.blocks ?? counted;
  const bytes = Buffer.alloc(512 + blocks * BLOCK);
  bytes.write('VMAE', 0, 'latin1');
  bytes.writeUInt16BE(options.blockCount ?? blocks, 6);
  bytes.set(options.uuid ?? UUID, 8);
  for (const [index, [device, cluster, mask]] of entries.entries()) {
    bytes.writeUInt16BE(mask, 40 + 8 * index);
    bytes[40 + 8 * index + 3] = device;
    bytes.writeUInt32BE(cluster, 40 + 8 * index + 4);
  }
  for (let block = 0; block < blocks; block++) bytes.fill(block + 1, 512 + block * BLOCK, 512 + (block + 1) * BLOCK);
  options.change?.(bytes);
  return sealExtent(bytes);
}

export function sealHeader(bytes: Buffer): Buffer {
  return seal(bytes, 0, bytes.readUInt32BE(56), 32);
}

/** The extent at `at`. */
export function sealExtent(bytes: Buffer, at = 0): Buffer {
  return seal(bytes, at, at + 512, 24);
}

function seal(bytes: Buffer, from: number, to: number, md5At: number): Buffer {
  const field = bytes.subarray(from + md5At, from + md5At + 16).fill(0);
  field.set(createHash('md5').update(bytes.subarray(from, to)).digest());
  return bytes;
}

/** Where the extents of a sound archive begin, and where the last one ends. */
export function extentOffsets(archive: Buffer): number[] {
  const offsets = [archive.readUInt32BE(56)];
  while (offsets.at(-1)! < archive.byteLength) {
    const at = offsets.at(-1)!;
    offsets.push(at + 512 + BLOCK * archive.readUInt16BE(at + 6));
  }
  return offsets;
}

function popcount(mask: number): number {
  return mask.toString(2).replaceAll('0', '').length;
}
