// SPDX-License-Identifier: MIT
// The guest's changes under a mirror that blocks writes: they go to the source and to the target before they are
// acknowledged, so that the mirror converges however fast the guest writes.

import type { BlockDevice } from '../block/device.js';
import type { DirtyBitmap } from '../block/dirty-bitmap.js';
import type { Change } from '../block/filters/dirty-tracking.js';
import type { RequestList } from '../block/request-list.js';
import { type CopyFailure, type MirrorCopy, onTarget } from './mirror-copy.js';

export interface MirrorChangesOptions {
  readonly target: BlockDevice;
  readonly copy: MirrorCopy;
  readonly bitmap: DirtyBitmap;
  readonly requests: RequestList;
  readonly copiedClusters: DirtyBitmap | undefined;
  /** False while the mirror rests (paused, stopped): then changes are marked only. */
  readonly isActive: () => boolean;
  /** Called after each, when its range is free again. The guest is not told of a failure of the target. */
  readonly onEnded: (failure: CopyFailure | undefined) => void;
}

interface Range {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * Each change takes part in the mirror's list of requests, whether it goes to the target or not. So changes that overlap
 * reach both sides in one order, and no operation of the mirror puts older content over a newer change.
 */
export class MirrorChanges {
  constructor(private readonly options: MirrorChangesOptions) {}

  /** Does the change on the source by `apply`, then on the target. Rejects as `apply` does. */
  async handle(change: Change, apply: () => Promise<void>): Promise<void> {
    const { requests, onEnded } = this.options;
    const range = this.#wholeClusters(change);
    const request = await requests.begin(range.offsetBytes, range.lengthBytes);
    let failure: CopyFailure | undefined;
    try {
      failure = await this.#onBoth(change, range, apply);
    } finally {
      request.end();
      onEnded(failure);
    }
  }

  async #onBoth(change: Change, range: Range, apply: () => Promise<void>): Promise<CopyFailure | undefined> {
    const { bitmap, copiedClusters, isActive } = this.options;
    try {
      await apply();
    } catch (error) {
      bitmap.set(change.offsetBytes, change.lengthBytes);
      throw error;
    }
    if (!isActive()) {
      bitmap.set(change.offsetBytes, change.lengthBytes);
      return undefined;
    }
    const failure = await this.#toTarget(change, range);
    if (failure) {
      // All of it: clusters that were not copied when it was widened may have been since, while it waited.
      bitmap.set(range.offsetBytes, range.lengthBytes);
      return failure;
    }
    // Its ends lie in clusters that were copied before, or are clusters' edges.
    copiedClusters?.set(range.offsetBytes, range.lengthBytes);
    this.#clearWhole(range);
    return undefined;
  }

  async #toTarget(change: Change, range: Range): Promise<CopyFailure | undefined> {
    const { target, copy } = this.options;
    const { offsetBytes, lengthBytes } = change;
    if (lengthBytes !== range.lengthBytes || change.kind === 'discard') {
      // What a discard leaves is the source's choice; so is what lies around a change in a cluster.
      return await copy.whole(range.offsetBytes, range.lengthBytes);
    }
    if (change.kind === 'write') return await onTarget(() => target.write(offsetBytes, change.from));
    return await onTarget(() => target.writeZeroes(offsetBytes, lengthBytes));
  }

  /** The chunks that lie wholly in the range are now the same on both sides. */
  #clearWhole({ offsetBytes, lengthBytes }: Range): void {
    const { bitmap } = this.options;
    const { granularityBytes } = bitmap;
    const end = offsetBytes + lengthBytes;
    const from = Math.ceil(offsetBytes / granularityBytes) * granularityBytes;
    const to = end === bitmap.lengthBytes ? end : end - (end % granularityBytes);
    if (from < to) bitmap.clear(from, to - from);
  }

  /** The change, widened to whole clusters of the target at an end whose cluster was never copied. */
  #wholeClusters({ offsetBytes, lengthBytes }: Range): Range {
    const { copiedClusters } = this.options;
    if (!copiedClusters) return { offsetBytes, lengthBytes };
    const clusterBytes = copiedClusters.granularityBytes;
    const end = offsetBytes + lengthBytes;
    const from = copiedClusters.get(offsetBytes) ? offsetBytes : offsetBytes - (offsetBytes % clusterBytes);
    const wholeEnd = Math.min(copiedClusters.lengthBytes, Math.ceil(end / clusterBytes) * clusterBytes);
    const to = copiedClusters.get(end - 1) ? end : wholeEnd;
    return { offsetBytes: from, lengthBytes: to - from };
  }
}
