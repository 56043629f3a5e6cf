// SPDX-License-Identifier: MIT
// Whole numbers within bounds.

import { UsageError } from '../base/errors.js';

/** @throws UsageError that names the flag and the bounds. */
export function parseCount(text: string, flag: string, least: number, most: number): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new UsageError('bad-number', 'this is not a number that it takes', {
    object: `${flag} ${text}`,
    expected: `a whole number from ${least} to ${most}`,
  });
}

const MOST_WORKERS = 256;

/** The --workers flag; 0 works without threads. */
export function parseWorkers(text: string | undefined): { workers?: number } {
  return text === undefined ? {} : { workers: parseCount(text, '--workers', 0, MOST_WORKERS) };
}

/** The --wait flag in seconds: not given is 0, given without a number is for ever. */
export function parseWait(text: string | true | undefined): number {
  if (text === undefined) return 0;
  return text === true || text === '' ? Number.POSITIVE_INFINITY : parseCount(text, '--wait', 0, 10 ** 9);
}
