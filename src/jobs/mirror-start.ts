// SPDX-License-Identifier: MIT
// What a mirror has to copy at the beginning.

import type { BlockDevice } from '../block/device.js';
import type { DirtyBitmap } from '../block/dirty-bitmap.js';
import type { CopyFailure, MirrorCopy } from './mirror-copy.js';

/**
 * `full`: all content. `top`: what is not `backed`, for a target whose backing will be the source's. `none`: nothing but
 * what is written from now on.
 */
export type MirrorSync = 'full' | 'top' | 'none';

export interface MirrorStart {
  readonly sync: MirrorSync;
  /** All of the target reads as zeros, so that zeros need not be copied. */
  readonly targetIsZero: boolean;
  readonly bitmap: DirtyBitmap;
  readonly copy: MirrorCopy;
}

/** How much of a disk one status request asks about. */
const STATUS_BYTES = 2 ** 36;

/** True if what is to be copied is told without looking at the source. */
export function marksWithoutLooking({ sync, targetIsZero, bitmap }: MirrorStart): boolean {
  if (sync === 'full' && !targetIsZero) bitmap.set(0, bitmap.lengthBytes);
  return sync === 'none' || (sync === 'full' && !targetIsZero);
}

/**
 * Marks what is to be copied of the range from `fromBytes` on; resolves to where it has got to. Changes that others make
 * meanwhile are marked by the filter, so that it does not matter on which side of them the look falls.
 */
export async function markNext(
  source: Pick<BlockDevice, 'lengthBytes'>,
  { sync, bitmap, copy }: MirrorStart,
  fromBytes: number,
): Promise<number | CopyFailure> {
  const status = await copy.status(fromBytes, Math.min(STATUS_BYTES, source.lengthBytes - fromBytes));
  if ('error' in status) return status;
  let at = fromBytes;
  for (const { offsetBytes, lengthBytes, state, backed } of status.extents) {
    // With `top` a zero of the source's own hides what its backing has there, so it is copied too.
    const isWanted = sync === 'top' ? backed !== true : state === 'data';
    if (isWanted) bitmap.set(offsetBytes, lengthBytes);
    at = offsetBytes + lengthBytes;
  }
  return at;
}
