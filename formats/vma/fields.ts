// SPDX-License-Identifier: MIT
// Fields of the layout: big-endian 64-bit numbers, MD5 with its own field zeroed, names.

import { createHash, hash } from 'node:crypto';
import { isSize } from '../../src/base/checked.js';
import { MAX_NAME_BYTES } from './limits.js';

export const MD5_BYTES = 16;
const ZERO_MD5 = new Uint8Array(MD5_BYTES);
/** Control characters, and halves of surrogate pairs, which UTF-8 cannot hold. */
const NOT_IN_NAMES = /[/\p{Cc}\p{Cs}]/u;

/** An unsigned 64-bit number; Infinity where it is past 2^53 − 1. */
export function getSize(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
  return isSize(value) ? value : Number.POSITIVE_INFINITY;
}

/** Of few bytes, of which there are many: two thirds of what a Hash object costs. */
export function md5(bytes: Uint8Array): Buffer {
  return hash('md5', bytes, 'buffer');
}

/** The MD5 of the bytes with the 16 at `md5At` taken as zeros. */
export function md5Without(bytes: Uint8Array, md5At: number): Buffer {
  const begun = createHash('md5').update(bytes.subarray(0, md5At)).update(ZERO_MD5);
  return begun.update(bytes.subarray(md5At + MD5_BYTES)).digest();
}

/** A base name that is safe to write into any directory. */
export function isBaseName(text: string): boolean {
  if (text === '' || text === '.' || text === '..') return false;
  return Buffer.byteLength(text) <= MAX_NAME_BYTES && !NOT_IN_NAMES.test(text);
}
