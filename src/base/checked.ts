// SPDX-License-Identifier: MIT
// Offsets and sizes are safe integers (number) everywhere inside; they are checked where they enter.

/** True for an integer in 0 … 2^53 − 1. */
export function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** True for a power of two between the bounds, both included. */
export function isPowerOfTwo(value: number, least: number, most: number): boolean {
  return Number.isSafeInteger(value) && value >= least && value <= most && 2 ** Math.round(Math.log2(value)) === value;
}

/** ceil(a / b) for safe integers. */
export function divideUp(a: number, b: number): number {
  return Math.floor(a / b) + (a % b === 0 ? 0 : 1);
}
