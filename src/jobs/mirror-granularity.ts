// SPDX-License-Identifier: MIT
// How finely a mirror tells changed from unchanged.

import { UsageError } from '../base/errors.js';

const LEAST_DEFAULT_BYTES = 4096;
const MOST_DEFAULT_BYTES = 65536;

/** What a caller may choose; finer costs memory, coarser costs copying. */
const LEAST_CHOSEN_BYTES = 512;
const MOST_CHOSEN_BYTES = 64 * 2 ** 20;

export interface GranularityWish {
  /** The caller's choice, a power of two. */
  readonly granularityBytes?: number;
  /** The target's cluster size, where it has clusters. */
  readonly targetClusterBytes?: number;
  readonly targetAlignmentBytes: number;
}

/**
 * The granularity of a mirror's dirty bitmap: the caller's, else the target's cluster size (or its alignment, where that
 * tells something) held between 4 KiB and 64 KiB, else 64 KiB. Always a power of two. Throws UsageError
 * 'bad-granularity' for a choice that is none, or out of bounds.
 */
export function mirrorGranularity(wish: GranularityWish): number {
  if (wish.granularityBytes !== undefined) return checkGranularity(wish.granularityBytes);
  const unitBytes = wish.targetClusterBytes ?? wish.targetAlignmentBytes;
  if (!(unitBytes > 1)) return MOST_DEFAULT_BYTES;
  const powerOfTwo = 2 ** Math.ceil(Math.log2(unitBytes));
  return Math.min(MOST_DEFAULT_BYTES, Math.max(LEAST_DEFAULT_BYTES, powerOfTwo));
}

function checkGranularity(granularityBytes: number): number {
  const isPowerOfTwo = Number.isInteger(Math.log2(granularityBytes));
  if (isPowerOfTwo && granularityBytes >= LEAST_CHOSEN_BYTES && granularityBytes <= MOST_CHOSEN_BYTES) {
    return granularityBytes;
  }
  throw new UsageError('bad-granularity', 'a granularity is a power of two', {
    expected: `a power of two from ${LEAST_CHOSEN_BYTES} to ${MOST_CHOSEN_BYTES}`,
    found: String(granularityBytes),
  });
}
