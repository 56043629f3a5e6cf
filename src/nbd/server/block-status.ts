// SPDX-License-Identifier: MIT
// The answers to BLOCK_STATUS: what a device or a bitmap says of a range, in extents for the wire.

import type { BlockDevice } from '../../block/device.js';
import type { StatusExtent } from '../protocol/chunks.js';
import { ALLOCATION, BITMAP_DIRTY } from '../protocol/constants.js';
import type { Context, ExportBitmap } from './nbd-export.js';

/** How often a device is asked again in one request, when it tells only a little at a time. */
const MOST_CALLS = 64;

/** Who wants one extent should not have a device find out about a thousand: it is asked for little, then for more. */
const FIRST_STEP_BYTES = 1 << 20;

/** At least one extent, at most `mostExtents`; consecutive from `offsetBytes`, never past the range. */
export function statusExtents(
  device: BlockDevice,
  context: Context,
  offsetBytes: number,
  lengthBytes: number,
  mostExtents: number,
): Promise<StatusExtent[]> | StatusExtent[] {
  if (context.kind === 'allocation') return allocation(device, offsetBytes, lengthBytes, mostExtents);
  return dirtiness(context.bitmap, offsetBytes, lengthBytes, mostExtents);
}

async function allocation(
  device: BlockDevice,
  offsetBytes: number,
  lengthBytes: number,
  mostExtents: number,
): Promise<StatusExtent[]> {
  const joiner = new Joiner(mostExtents);
  const end = offsetBytes + lengthBytes;
  let at = offsetBytes;
  let step = mostExtents === 1 ? FIRST_STEP_BYTES : lengthBytes;
  for (let calls = 0; at < end && calls < MOST_CALLS; calls++) {
    const asked = Math.min(step, end - at);
    step *= 4;
    for (const extent of await device.blockStatus(at, asked)) {
      if (!joiner.add(extent.lengthBytes, extent.state === 'zero' ? ALLOCATION.hole | ALLOCATION.zero : 0)) {
        return joiner.extents;
      }
      at += extent.lengthBytes;
    }
  }
  return joiner.extents;
}

function dirtiness(
  bitmap: ExportBitmap,
  offsetBytes: number,
  lengthBytes: number,
  mostExtents: number,
): StatusExtent[] {
  const joiner = new Joiner(mostExtents);
  const end = offsetBytes + lengthBytes;
  for (let at = offsetBytes; at < end; ) {
    const dirtyAt = bitmap.nextDirty(at, end) ?? end;
    if (dirtyAt > at && !joiner.add(dirtyAt - at, 0)) break;
    if (dirtyAt >= end) break;
    at = Math.min(end, bitmap.nextClean(dirtyAt, end) ?? end);
    if (!joiner.add(at - dirtyAt, BITMAP_DIRTY)) break;
  }
  return joiner.extents;
}

/** Makes one extent of neighbours of equal flags. */
class Joiner {
  readonly extents: { lengthBytes: number; flags: number }[] = [];
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** False: it would be one extent too many, and was not added. */
  add(lengthBytes: number, flags: number): boolean {
    const last = this.extents.at(-1);
    if (last?.flags === flags) {
      last.lengthBytes += lengthBytes;
      return true;
    }
    if (this.extents.length === this.#most) return false;
    this.extents.push({ lengthBytes, flags });
    return true;
  }
}
