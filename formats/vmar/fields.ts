// SPDX-License-Identifier: MIT
// Fields of fixed layouts: 64-bit numbers, zero fields, and the errors of encoders and decoders.

import { isSize } from '../../src/base/checked.js';
import { BugError, DamageError, type ErrorFacts } from '../../src/base/errors.js';

/** Where the bytes of a structure come from. */
export interface Place {
  /** The file, for messages. */
  readonly object: string;
  /** Where the structure lies in it. */
  readonly offsetBytes: number;
}

/** A 64-bit number; Infinity where it is past 2^53 − 1. */
export function getSize(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
  return isSize(value) ? value : Number.POSITIVE_INFINITY;
}

/** Writes a 64-bit number that is a size. */
export function putSize(bytes: Buffer, at: number, value: number): void {
  if (!isSize(value)) throw new BugError(`${value} is not a size`);
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

/** True if a field that must be zero is. For short fields. */
export function isZeroField(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** Writes bytes of a fixed length. */
export function putBytes(into: Buffer, at: number, bytes: Uint8Array, length: number): void {
  if (bytes.byteLength !== length) throw new BugError(`${bytes.byteLength} bytes where ${length} belong`);
  into.set(bytes, at);
}

/** A promise that an encoder's caller broke. */
export function required(kept: boolean, promise: string): void {
  if (!kept) throw new BugError(`not kept: ${promise}`);
}

/** Makes the errors of one decoder at one place. */
export type Refusal = (problem: string, facts?: Pick<ErrorFacts, 'expected' | 'found'>) => DamageError;

export function refusalOf(code: string, place: Place): Refusal {
  return (problem, facts = {}) =>
    new DamageError(code, problem, { object: place.object, offsetBytes: place.offsetBytes, ...facts });
}

/** Throws unless a structure has at least the bytes that it needs. */
export function checkLength(bytes: Uint8Array, least: number, what: string, refuse: Refusal): void {
  if (bytes.byteLength >= least) return;
  throw refuse(`${what} is cut off`, { expected: `${least} bytes`, found: `${bytes.byteLength} bytes` });
}
