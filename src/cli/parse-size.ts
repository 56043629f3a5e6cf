// SPDX-License-Identifier: MIT
// Sizes as people write them: 64KiB, 1.5GiB, 4096.

import { UsageError } from '../base/errors.js';

const SIZE = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?$/i;
const UNITS: Readonly<Record<string, number>> = { b: 1, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 };

/** Bytes. @throws UsageError that names the flag, for anything but a whole number of bytes below 2^53. */
export function parseSize(text: string, flag: string): number {
  const match = SIZE.exec(text);
  const bytes = match === null ? Number.NaN : Number(match[1]) * UNITS[(match[2] ?? 'B').toLowerCase()]!;
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new UsageError('bad-size', 'this is not a size', {
    object: `${flag} ${text}`,
    advice: 'Write a number of bytes, or one with KiB, MiB, GiB or TiB: 512KiB, 1.5GiB.',
  });
}
