// SPDX-License-Identifier: MIT
// What a mirror can be told, and what it refuses.

import { UsageError } from '../base/errors.js';
import type { BlockNode } from '../block/block-node.js';
import type { BlockDevice } from '../block/device.js';
import { checkWritable } from '../block/range.js';
import type { ErrorAction, JobOptions } from './job.js';
import { mirrorGranularity } from './mirror-granularity.js';
import type { MirrorSync } from './mirror-start.js';

/**
 * `background`: what the guest writes is marked, and copied later. `write-blocking`: it goes to the target too before it
 * is acknowledged, so that the mirror catches up however fast the guest writes.
 */
export type MirrorCopyMode = 'background' | 'write-blocking';

export interface MirrorJobOptions extends JobOptions {
  /** The place that its users hold, and that the target moves into in the end. */
  readonly source: BlockNode;
  /** As long as the source. Neither is closed by the job. */
  readonly target: BlockDevice;
  readonly sync: MirrorSync;
  readonly copyMode?: MirrorCopyMode;
  /** The target reads as zeros everywhere. */
  readonly targetIsZero?: boolean;
  /** See `mirrorGranularity`. */
  readonly granularityBytes?: number;
  /** A power of two. */
  readonly targetClusterBytes?: number;
  /** If not, clusters of the target are copied whole the first time, also where they are larger than the granularity. */
  readonly targetHasBacking?: boolean;
  /** What may be in flight at most, in memory; 16 MiB if untold. */
  readonly bufferBytes?: number;
  /** Someone looks at `ioStatus` and resumes: `stop` and `enospc` are refused where nobody does. */
  readonly hasIoStatus?: boolean;
  /** Told when the target has caught up (true), and when an error takes that back (false). */
  readonly onSynced?: (isSynced: boolean) => void;
}

/** What the options come to. */
export interface MirrorSizes {
  readonly granularityBytes: number;
  /** Clusters to be copied whole the first time; undefined where that does not matter. */
  readonly clusterBytes: number | undefined;
  /** What one operation reads at most, unless a chunk is larger. A multiple of the granularity. */
  readonly operationBytes: number;
  /** Memory for so many of those. */
  readonly buffers: number;
}

export const MOST_OPERATIONS = 16;
const DEFAULT_BUFFER_BYTES = 16 * 2 ** 20;

/** @throws UsageError for what makes no sense */
export function checkMirror(options: MirrorJobOptions): MirrorSizes {
  const { source, target, hasIoStatus = false } = options;
  checkWritable(target);
  if (source === target || source.device === target) {
    throw new UsageError('same-device', 'a device cannot be mirrored to itself', { object: target.name });
  }
  if (source.lengthBytes !== target.lengthBytes) {
    throw new UsageError('length-differs', 'the target of a mirror is as long as its source', {
      object: target.name,
      expected: `${source.lengthBytes} bytes`,
      found: `${target.lengthBytes} bytes`,
    });
  }
  if (!hasIoStatus) for (const action of [options.onSourceError, options.onTargetError]) checkAction(action);
  return mirrorSizes(options);
}

function checkAction(action: ErrorAction | undefined): void {
  if (action !== 'stop' && action !== 'enospc') return;
  throw new UsageError('iostatus-off', `"${action}" on errors needs someone who looks at the I/O status and resumes`, {
    advice: 'Enable the I/O status, or choose "report" or "ignore".',
  });
}

function mirrorSizes(options: MirrorJobOptions): MirrorSizes {
  const { target, targetClusterBytes, bufferBytes = DEFAULT_BUFFER_BYTES } = options;
  const granularityBytes = mirrorGranularity({
    targetAlignmentBytes: target.alignmentBytes,
    ...(targetClusterBytes === undefined ? {} : { targetClusterBytes }),
    ...(options.granularityBytes === undefined ? {} : { granularityBytes: options.granularityBytes }),
  });
  if (!(Number.isSafeInteger(bufferBytes) && bufferBytes >= granularityBytes)) {
    throw new UsageError('bad-buffer', "a mirror's buffer holds one chunk at least", {
      expected: `at least ${granularityBytes} bytes`,
      found: String(bufferBytes),
    });
  }
  const share = Math.floor(bufferBytes / MOST_OPERATIONS / granularityBytes) * granularityBytes;
  const operationBytes = Math.max(granularityBytes, share);
  return {
    granularityBytes,
    clusterBytes: clustersToCopyWhole(options, granularityBytes),
    operationBytes,
    buffers: Math.min(MOST_OPERATIONS, Math.floor(bufferBytes / operationBytes)),
  };
}

/**
 * What was only partly written would hide, with zeros, what the backing that the target gets later has there. Operations
 * copy whole chunks anyway; a guest's write that goes to the target at once does not.
 */
function clustersToCopyWhole(options: MirrorJobOptions, granularityBytes: number): number | undefined {
  const { targetClusterBytes = 0, targetHasBacking = false, copyMode, sync } = options;
  if (targetClusterBytes > 0 && !Number.isInteger(Math.log2(targetClusterBytes))) {
    throw new UsageError('bad-cluster', 'a cluster size is a power of two', { found: String(targetClusterBytes) });
  }
  if (targetHasBacking) return undefined;
  if (targetClusterBytes > granularityBytes) return targetClusterBytes;
  return copyMode === 'write-blocking' && sync !== 'full' ? granularityBytes : undefined;
}
