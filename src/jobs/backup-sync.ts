// SPDX-License-Identifier: MIT
// Which part of a disk a backup copies.

import { UsageError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { DirtyBitmap, type DirtyRange } from '../block/dirty-bitmap.js';
import type { ClusterTarget } from './backup-target.js';

/**
 * - `full`: all of it.
 * - `top`: what is the device's own, not shown through from its backing.
 * - `incremental`: the clusters that a bitmap names, as a whole. The bitmap is taken at the start: `clear`, the default,
 *   leaves it clean for what changes from then on, and gives back what it named if the backup does not come off; `keep`
 *   leaves it as it is.
 * - `none`: only what guests are about to change, until the job is completed. For a target device.
 *
 * `top` and `incremental` rest on what the target holds already (the sink's parent, the device's content). A target that
 * holds nothing gets all of it.
 */
export type BackupSync =
  | { readonly mode: 'full' }
  | { readonly mode: 'top' }
  | { readonly mode: 'incremental'; readonly bitmap: DirtyBitmap; readonly afterwards?: 'clear' | 'keep' }
  | { readonly mode: 'none' };

/** @throws UsageError for what does not go together */
export function checkSync(sync: BackupSync, source: BlockDevice, target: ClusterTarget, isLive: boolean): void {
  if (target.device === source) {
    throw new UsageError('same-device', 'a disk cannot be backed up onto itself', { object: source.name });
  }
  if (sync.mode === 'none' && (target.failsForGood || !isLive)) {
    throw new UsageError('bad-sync', 'a backup of nothing but changes needs a live source and a target device', {
      object: source.name,
    });
  }
  if (sync.mode === 'incremental' && sync.bitmap.lengthBytes !== source.lengthBytes) {
    throw new UsageError('bad-bitmap', 'the bitmap is of another length than the disk', {
      object: source.name,
      expected: `${source.lengthBytes} bytes`,
      found: `${sync.bitmap.lengthBytes} bytes`,
    });
  }
}

export interface TakenSync {
  /** In clusters. */
  readonly remaining: DirtyBitmap;
  /** What the target holds already and need not be looked at, in ascending order. */
  readonly unchanged: Iterable<DirtyRange>;
  /** The backup did not come off: the bitmap that was taken gets back what it named. */
  readonly giveBack: () => void;
}

/** To be called at the moment that the backup shows, when nobody writes to the source. */
export function takeSync(sync: BackupSync, lengthBytes: number, target: ClusterTarget): TakenSync {
  const remaining = new DirtyBitmap(lengthBytes, target.clusterSizeBytes);
  if (sync.mode !== 'incremental') {
    remaining.set(0, lengthBytes);
    return { remaining, unchanged: [], giveBack: () => {} };
  }
  const { bitmap } = sync;
  if (target.holdsUnchanged) remaining.merge(bitmap);
  else remaining.set(0, lengthBytes);
  const unchanged = cleanRanges(remaining.snapshot());
  if (sync.afterwards === 'keep') return { remaining, unchanged, giveBack: () => {} };
  const taken = bitmap.snapshot();
  bitmap.clear(0, lengthBytes);
  return { remaining, unchanged, giveBack: () => bitmap.merge(taken) };
}

function* cleanRanges(bitmap: DirtyBitmap): Generator<DirtyRange> {
  for (let from = bitmap.nextClean(0); from !== undefined; ) {
    const to = bitmap.nextDirty(from) ?? bitmap.lengthBytes;
    yield { offsetBytes: from, lengthBytes: to - from };
    from = bitmap.nextClean(to);
  }
}

/** The clusters that show through from the device's backing as a whole, in ascending order; neighbours as one range. */
export async function* backedRanges(device: BlockDevice, clusterSizeBytes: number): AsyncGenerator<DirtyRange> {
  const { lengthBytes } = device;
  let from = 0;
  for (let at = 0; at < lengthBytes; ) {
    for (const extent of await device.blockStatus(at, lengthBytes - at)) {
      if (extent.backed !== true) {
        yield* wholeClusters(from, at, clusterSizeBytes, lengthBytes);
        from = extent.offsetBytes + extent.lengthBytes;
      }
      at = extent.offsetBytes + extent.lengthBytes;
    }
  }
  yield* wholeClusters(from, lengthBytes, clusterSizeBytes, lengthBytes);
}

/** The clusters wholly inside [from, to), if there are any. */
function* wholeClusters(from: number, to: number, unit: number, lengthBytes: number): Generator<DirtyRange> {
  const first = Math.ceil(from / unit) * unit;
  const end = to === lengthBytes ? to : to - (to % unit);
  if (first < end) yield { offsetBytes: first, lengthBytes: end - first };
}
