// SPDX-License-Identifier: MIT
// The threads and slots of one command, sized so that all of it stays below 400 MB whatever the disk's size.

import { availableParallelism } from 'node:os';
import type { HashName } from '../../formats/vmar/hash.js';
import { createExecutor } from '../pipeline/executor.js';
import { SlotPool } from '../pipeline/slots.js';
import type { SinkMachine } from './archive-sink.js';

/** Raw bytes of a data frame, and of a slot: compression as good as a large block's. */
const FRAME_BYTES = 1 << 20;
/** Bytes of all slots that sources fill; no fewer than a few slots, whatever the cluster size. */
const SOURCE_BYTES = 24 << 20;
const GATHER_SLOTS = 6;
/** Enough for two extents under way, one frame a worker, and those compressed ahead. */
const FRAME_SLOTS = 48;

export interface MachineOptions {
  readonly hash: HashName;
  /** zstd level. */
  readonly level: number;
  readonly clusterSizeBytes: number;
  /** One a core by default; 0 works on the calling thread. */
  readonly workers?: number;
}

export interface Machine extends SinkMachine {
  readonly hash: HashName;
  close(): Promise<void>;
}

export function createMachine(options: MachineOptions): Machine {
  const { hash, level, clusterSizeBytes } = options;
  const workers = options.workers ?? availableParallelism();
  const slotBytes = Math.max(FRAME_BYTES, clusterSizeBytes);
  const shape = { slotBytes, clusterSizeBytes };
  const sourceSlots = new SlotPool({ ...shape, count: Math.max(4 + workers, Math.floor(SOURCE_BYTES / slotBytes)) });
  const gatherSlots = new SlotPool({ ...shape, count: GATHER_SLOTS });
  const frameSlots = new SlotPool({
    ...shape,
    count: Math.max(8, Math.floor((FRAME_SLOTS * FRAME_BYTES) / slotBytes)),
  });
  const executor = createExecutor({
    workers,
    hash,
    level,
    clusterSizeBytes,
    pools: [sourceSlots, gatherSlots, frameSlots],
  });
  return {
    hash,
    executor,
    sourceSlots,
    gatherSlots,
    frameSlots,
    dataFrameBytes: slotBytes,
    close: async () => await executor.close(),
  };
}
