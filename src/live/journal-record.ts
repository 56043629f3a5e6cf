// SPDX-License-Identifier: MIT
// One record of a live restore's journal: 32 bytes, so that none crosses a sector.
//
//   offset size field
//   0      4    CRC-32 of the other 28 bytes, begun with the journal's own salt
//   4      1    kind
//   5      3    zero
//   8      8    sequence number; the first record has that of the header, each next one more
//   16     8    held: first byte of the range. checkpoint: highest sequence number that it covers. Else zero
//   24     8    held: length of the range. Else zero

import { crc32 } from 'node:zlib';
import { asBuffer } from '../base/bytes.js';
import { isSize } from '../base/checked.js';

export const RECORD_BYTES = 32;

const KINDS = ['held', 'checkpoint', 'distrust', 'complete'] as const;

export type JournalRecord =
  /** The target holds the range; its data was given to the target before this was written. */
  | { readonly kind: 'held'; readonly sequence: number; readonly offsetBytes: number; readonly lengthBytes: number }
  /** All records up to `covered` are of data that is durable in the target. */
  | { readonly kind: 'checkpoint'; readonly sequence: number; readonly covered: number }
  /** The target could not be flushed: what the last checkpoint does not cover, earlier or later, may be lost. */
  | { readonly kind: 'distrust'; readonly sequence: number }
  /** The target holds all, durably; the backup is not needed any more. */
  | { readonly kind: 'complete'; readonly sequence: number };

/** Writes the record at `at`. */
export function encodeRecord(record: JournalRecord, salt: number, into: Uint8Array, at: number): void {
  const bytes = asBuffer(into.subarray(at, at + RECORD_BYTES));
  const { kind } = record;
  const first = kind === 'held' ? record.offsetBytes : kind === 'checkpoint' ? record.covered : 0;
  bytes.fill(0);
  bytes.writeUInt8(KINDS.indexOf(kind) + 1, 4);
  bytes.writeBigUInt64LE(BigInt(record.sequence), 8);
  bytes.writeBigUInt64LE(BigInt(first), 16);
  bytes.writeBigUInt64LE(BigInt(kind === 'held' ? record.lengthBytes : 0), 24);
  bytes.writeUInt32LE(crc32(bytes.subarray(4), salt), 0);
}

/** The record at `at`, or undefined where there is none: it was cut off, is damaged, or belongs to another journal. */
export function decodeRecord(from: Uint8Array, salt: number, at: number): JournalRecord | undefined {
  const bytes = asBuffer(from.subarray(at, at + RECORD_BYTES));
  if (bytes.byteLength < RECORD_BYTES || bytes.readUInt32LE(0) !== crc32(bytes.subarray(4), salt)) return undefined;
  const kind = KINDS[bytes.readUInt8(4) - 1];
  const [sequence, first, second] = [8, 16, 24].map((field) => Number(bytes.readBigUInt64LE(field))) as Numbers;
  if (kind === undefined || ![sequence, first, second].every(isSize) || bytes.readUIntLE(5, 3) !== 0) return undefined;
  switch (kind) {
    case 'held':
      return { kind, sequence, offsetBytes: first, lengthBytes: second };
    case 'checkpoint':
      return { kind, sequence, covered: first };
    default:
      return { kind, sequence };
  }
}

type Numbers = [sequence: number, first: number, second: number];
