// SPDX-License-Identifier: MIT
// Sizes as people write them: 64KiB, 1.5GiB, 4096.

import { UsageError } from '../base/errors.js';
import { sizeBytesOf } from '../base/quantities.js';

/** Bytes. @throws UsageError that names the flag, for anything but a whole number of bytes below 2^53. */
export function parseSize(text: string, flag: string): number {
  const bytes = sizeBytesOf(text);
  if (bytes !== undefined) return bytes;
  throw new UsageError('bad-size', 'this is not a size', {
    object: `${flag} ${text}`,
    advice: 'Write a number of bytes, or one with KiB, MiB, GiB or TiB: 512KiB, 1.5GiB.',
  });
}
