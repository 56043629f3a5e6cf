// SPDX-License-Identifier: MIT
// A dirty bitmap as bytes. Little-endian:
//
//   0   8  "vmarBITS"
//   8   4  version, 1
//  12   4  number of records
//  16   8  length of the device, bytes
//  24   8  granularity, bytes
//  32   .  records, ascending, not overlapping, each at a multiple of 4096 granules:
//            0  8  first granule
//            8  8  bit 63 set: bits 0–62 are the number of granules, all dirty
//                  else: bits 0–31 are the number of granules, at most 4096, bits 32–47 the number n of flips, rest 0
//           16  .  n > 0: n × 2 bytes: where, counted from the first granule, clean turns to dirty and back, ascending
//                  n = 0: a bit for each granule, in ceil(granules / 8) bytes, lowest bit first
//   .  16  seal (formats/vmar/SPEC.md §1, BLAKE3) of everything before it
//
// Where no record lies the bitmap is clean.

import { SEAL_BYTES, sealer } from '../../formats/vmar/hash.js';
import { asBuffer, bytesEqual } from '../base/bytes.js';
import { isPowerOfTwo } from '../base/checked.js';
import { DamageError } from '../base/errors.js';
import { type BitVisitor, LEAF_BITS } from './dirty-bitmap-tree.js';

const MAGIC = 'vmarBITS';
const VERSION = 1;
const HEADER_BYTES = 32;
const RECORD_BYTES = 16;
const ALL_DIRTY = 1n << 63n;
const FLIPS_SHIFT = 32n;

interface Shape {
  readonly lengthBytes: number;
  readonly granularityBytes: number;
}

/** @param visit shows the set bits to the visitor, in ascending order */
export function encodeDirtyBitmap(shape: Shape, visit: (visitor: BitVisitor) => void): Uint8Array {
  const records: Uint8Array[] = [];
  let run: { first: number; count: number } | undefined;
  const endRun = () => {
    if (run !== undefined) records.push(encodeRecord(run.first, BigInt(run.count) | ALL_DIRTY));
    run = undefined;
  };
  let count = 0;
  visit({
    full(first, granules) {
      if (run !== undefined && run.first + run.count === first) {
        run.count += granules;
        return;
      }
      endRun();
      run = { first, count: granules };
      count++;
    },
    mixed(first, granules, words) {
      endRun();
      const flips = findFlips(words, granules);
      const isFew = flips.length * 2 < granules / 8;
      const word = BigInt(granules) | (isFew ? BigInt(flips.length) << FLIPS_SHIFT : 0n);
      records.push(encodeRecord(first, word), isFew ? flipBytes(flips) : bitBytes(words, granules));
      count++;
    },
  });
  endRun();
  const body = Buffer.concat([encodeHeader(shape, count), ...records]);
  return Buffer.concat([body, sealer('blake3')(body)]);
}

function encodeHeader(shape: Shape, records: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(MAGIC, 'latin1');
  header.writeUInt32LE(VERSION, 8);
  header.writeUInt32LE(records, 12);
  header.writeBigUInt64LE(BigInt(shape.lengthBytes), 16);
  header.writeBigUInt64LE(BigInt(shape.granularityBytes), 24);
  return header;
}

function encodeRecord(first: number, word: bigint): Buffer {
  const record = Buffer.alloc(RECORD_BYTES);
  record.writeBigUInt64LE(BigInt(first), 0);
  record.writeBigUInt64LE(word, 8);
  return record;
}

/** Bit n of a flip is set where granule n differs from the one before it; before the first all is clean. */
function findFlips(words: Uint32Array, granules: number): number[] {
  const flips: number[] = [];
  let last = 0;
  for (const [at, word] of words.entries()) {
    for (let left = word ^ ((word << 1) | last); left !== 0; left &= left - 1) {
      const flip = at * 32 + 31 - Math.clz32(left & -left);
      if (flip < granules) flips.push(flip);
    }
    last = word >>> 31;
  }
  return flips;
}

function flipBytes(flips: readonly number[]): Buffer {
  const bytes = Buffer.alloc(flips.length * 2);
  for (const [at, flip] of flips.entries()) bytes.writeUInt16LE(flip, at * 2);
  return bytes;
}

function bitBytes(words: Uint32Array, granules: number): Uint8Array {
  const bytes = Buffer.alloc(words.length * 4);
  for (const [at, word] of words.entries()) bytes.writeUInt32LE(word, at * 4);
  return bytes.subarray(0, Math.ceil(granules / 8));
}

/** What the decoder fills: a bitmap of its own shape, all clean. */
interface Blank<Bitmap> {
  readonly bitmap: Bitmap;
  readonly granules: number;
  /** Makes granules [from, to) dirty. */
  fill(from: number, to: number): void;
}

/** @param make is called once the shape is known to make sense */
export function decodeDirtyBitmap<Bitmap>(
  bytes: Uint8Array,
  make: (lengthBytes: number, granularityBytes: number) => Blank<Bitmap>,
): Bitmap {
  const buffer = asBuffer(bytes);
  if (buffer.length < HEADER_BYTES + SEAL_BYTES) throw damaged('it is too short');
  const body = buffer.subarray(0, buffer.length - SEAL_BYTES);
  if (body.toString('latin1', 0, 8) !== MAGIC) throw damaged('it does not begin as one');
  if (!bytesEqual(sealer('blake3')(body), buffer.subarray(body.length))) throw damaged('its seal is wrong');
  const version = body.readUInt32LE(8);
  if (version !== VERSION) throw damaged(`it has version ${version}, not ${VERSION}`);
  const lengthBytes = size(body.readBigUInt64LE(16));
  const granularityBytes = size(body.readBigUInt64LE(24));
  if (!isPowerOfTwo(granularityBytes, 1, 2 ** 52)) throw damaged('its granularity is no power of two');
  const blank = make(lengthBytes, granularityBytes);
  decodeRecords(body, blank);
  return blank.bitmap;
}

function decodeRecords(body: Buffer, blank: Blank<unknown>): void {
  let at = HEADER_BYTES;
  let end = 0;
  for (let left = body.readUInt32LE(12); left > 0; left--) {
    if (at + RECORD_BYTES > body.length) throw damaged('it ends in a record');
    const first = size(body.readBigUInt64LE(at));
    const word = body.readBigUInt64LE(at + 8);
    const isAllDirty = word >= ALL_DIRTY;
    const granules = isAllDirty ? size(word & ~ALL_DIRTY) : Number(word & 0xffff_ffffn);
    at += RECORD_BYTES;
    if (first < end || first % LEAF_BITS !== 0 || granules === 0 || granules > blank.granules - first) {
      throw damaged('a record lies where none can');
    }
    end = first + granules;
    if (isAllDirty) {
      blank.fill(first, end);
    } else {
      const flips = word >> FLIPS_SHIFT;
      if (granules > LEAF_BITS || flips > LEAF_BITS) throw damaged('a record is too long');
      const length = flips > 0n ? Number(flips) * 2 : Math.ceil(granules / 8);
      if (at + length > body.length) throw damaged('it ends in a record');
      const content = body.subarray(at, at + length);
      if (flips > 0n) fillBetweenFlips(content, granules, first, blank);
      else fillBits(content, granules, first, blank);
      at += length;
    }
  }
  if (at !== body.length) throw damaged('something follows its last record');
}

function fillBetweenFlips(flips: Buffer, granules: number, first: number, blank: Blank<unknown>): void {
  for (let at = 0, last = -1; at < flips.length; at += 4) {
    const from = flips.readUInt16LE(at);
    const to = at + 2 < flips.length ? flips.readUInt16LE(at + 2) : granules;
    if (from <= last || to <= from || to > granules) throw damaged('what flips in a record is out of order');
    blank.fill(first + from, first + to);
    last = to;
  }
}

function fillBits(bits: Uint8Array, granules: number, first: number, blank: Blank<unknown>): void {
  const isSet = (at: number) => ((bits[at >> 3]! >> (at & 7)) & 1) === 1;
  for (let from = 0; from < granules; ) {
    if (!isSet(from)) {
      from += bits[from >> 3] === 0 ? 8 - (from & 7) : 1;
      continue;
    }
    let to = from + 1;
    while (to < granules && isSet(to)) to++;
    blank.fill(first + from, first + to);
    from = to;
  }
}

function size(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged('a number in it is too large');
  return Number(value);
}

function damaged(why: string): DamageError {
  return new DamageError('bitmap-damaged', `these bytes are no dirty bitmap: ${why}`);
}
