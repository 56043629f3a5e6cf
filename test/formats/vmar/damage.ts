// SPDX-License-Identifier: MIT
// Every way to cut bytes off and every way to flip one bit, and what a decoder must make of it.

import { expect } from 'vitest';
import { DamageError, VmarError } from '#vmar/src/base/errors.js';

/** What a call throws; fails if it throws nothing. */
export function thrownBy(step: () => unknown): unknown {
  try {
    step();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

/** The VmarError that a call throws; fails if it is another, or none. */
export function refusalBy(step: () => unknown): VmarError {
  const error = thrownBy(step);
  if (error instanceof VmarError) return error;
  throw new Error(`not a VmarError: ${error instanceof Error ? error.stack : String(error)}`);
}

/** Decodes the bytes cut off at every length, and with every one bit flipped: each must be a DamageError. */
export function expectEveryDamageFound(bytes: Uint8Array, decode: (bytes: Uint8Array) => unknown): void {
  decode(bytes);
  for (let length = 0; length < bytes.byteLength; length++) {
    expectDamage(() => decode(Uint8Array.from(bytes.subarray(0, length))), `cut to ${length} bytes`);
  }
  const flipped = Uint8Array.from(bytes);
  for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
    const at = bit >>> 3;
    flipped[at]! ^= 1 << (bit & 7);
    expectDamage(() => decode(flipped), `bit ${bit & 7} of byte ${at} flipped`);
    flipped[at] = bytes[at]!;
  }
}

function expectDamage(step: () => unknown, what: string): void {
  let result: unknown = 'nothing was thrown';
  try {
    step();
  } catch (error) {
    result = error;
  }
  if (!(result instanceof DamageError) || result.object === undefined || result.offsetBytes === undefined) {
    expect.fail(`${what}: ${result instanceof Error ? result.stack : String(result)}`);
  }
}
