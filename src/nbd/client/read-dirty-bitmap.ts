// SPDX-License-Identifier: MIT
// All of a dirty bitmap that an NBD server tells, as fine as it tells it.

import { DirtyBitmap } from '../../block/dirty-bitmap.js';
import type { NbdDevice } from './nbd-device.js';

/**
 * The bitmap with which the device was opened. Its granularity is at most `coarsestBytes`, and finer only where the
 * server's ranges are, so that no clean byte is called dirty and no memory goes to detail that there is not.
 */
export async function readDirtyBitmap(
  device: Pick<NbdDevice, 'lengthBytes' | 'dirtyStatus'>,
  coarsestBytes: number,
): Promise<DirtyBitmap> {
  const { lengthBytes } = device;
  let bitmap = new DirtyBitmap(lengthBytes, coarsestBytes);
  for (let at = 0; at < lengthBytes; ) {
    for (const extent of await device.dirtyStatus(at, lengthBytes - at)) {
      at = extent.offsetBytes + extent.lengthBytes;
      if (!extent.dirty) continue;
      const granularityBytes = Math.min(
        bitmap.granularityBytes,
        ...[extent.offsetBytes, at].filter((edge) => edge !== 0 && edge !== lengthBytes).map(largestPower),
      );
      if (granularityBytes < bitmap.granularityBytes) bitmap = refined(bitmap, granularityBytes);
      bitmap.set(extent.offsetBytes, extent.lengthBytes);
    }
  }
  return bitmap;
}

function refined(bitmap: DirtyBitmap, granularityBytes: number): DirtyBitmap {
  const finer = new DirtyBitmap(bitmap.lengthBytes, granularityBytes);
  finer.merge(bitmap);
  return finer;
}

/** The largest power of two that divides a number that is not 0. */
function largestPower(value: number): number {
  let power = 1;
  while (value % (power * 2) === 0) power *= 2;
  return power;
}
