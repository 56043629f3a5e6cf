// SPDX-License-Identifier: MIT
// What the pipeline can do, wherever it runs: hash, compress, extract, verify. Data stays in slots and files; calls and
// results are small.

import type { HashName } from '../../formats/vmar/hash.js';
import type { CompressedFrame, Piece } from './compress.js';
import type { ExtractJob, ExtractReport } from './extract-job.js';
import { InlineExecutor } from './inline-executor.js';
import type { FileRange } from './intake.js';
import type { CarryJob, LoadJob, LoadReport } from './load-job.js';
import type { Slot, SlotPool } from './slots.js';
import { ThreadedExecutor } from './threaded-executor.js';
import type { VerifyJob, VerifyReport } from './verify-job.js';

export type { CompressedFrame, Piece } from './compress.js';
export type {
  ExtractChunk,
  ExtractDamage,
  ExtractFrame,
  ExtractJob,
  ExtractReport,
  ExtractTarget,
} from './extract-job.js';
export type { CarryJob, LoadChunk, LoadJob, LoadReport } from './load-job.js';
export type { VerifyDamage, VerifyJob, VerifyReport } from './verify-job.js';

export interface IntakeRequest {
  readonly from?: FileRange;
  /** Room for the slot's bytes; none of the source's. */
  readonly into?: Slot;
}

export interface IntakeResult {
  /** Fewer than asked for if the file ends before: then nothing was hashed. */
  readonly readBytes: number;
  /** undefined if nothing was to be compressed. */
  readonly frame: CompressedFrame | undefined;
}

/**
 * Calls may overlap; they start in order and end in any. The slots of a call belong to it until its promise settles.
 * If a call rejects, the others go on, unless a worker died or the executor was closed: then all reject.
 */
export interface Executor {
  /**
   * Fills `slot.ids` and `slot.flags` for the clusters of the slot's first `lengthBytes`; the last may be short. A zero
   * cluster gets flag 1 and the zero id and is not hashed.
   */
  hashSlot(slot: Slot, lengthBytes: number): Promise<void>;
  /**
   * `hashSlot` and, with `into`, `compress` of all clusters that are not zero, in one go; with `from` the slot is read
   * from the file first. Rejects with the system's error if that fails.
   */
  intake(slot: Slot, lengthBytes: number, options: IntakeRequest): Promise<IntakeResult>;
  /**
   * Puts one frame with the pieces' bytes, end to end, into the start of `into`, which must have room for all of them
   * and be none of theirs. The frame is stored as it is where zstd does not save at least 1/32.
   */
  compress(pieces: readonly Piece[], into: Slot): Promise<CompressedFrame>;
  /**
   * Reads frames, checks seals and ids, and writes the chunks asked for to their places in the target. Damage is
   * reported, not thrown: what is damaged is not written, the rest is. What cannot be written rejects with FailedError.
   * Nothing is durable before the caller's fsync.
   */
  extract(job: ExtractJob): Promise<ExtractReport>;
  /**
   * Reads one frame, checks its seal, decompresses it into memory that is shared with the caller, and checks the chunks
   * asked for. Damage is reported, not thrown.
   */
  load(job: LoadJob): Promise<LoadReport>;
  /**
   * Reads one frame as it is stored into a slot, and checks its seal, that it opens, and the chunks asked for. Damage is
   * reported, not thrown; without any, the slot holds the very bytes that were checked.
   */
  carry(job: CarryJob): Promise<LoadReport>;
  /** Walks the extents of a container and checks them. Damage is reported, not thrown. */
  verifyExtents(job: VerifyJob): Promise<VerifyReport>;
  /** Starts the threads, while the caller opens what they will work on; else the first task does. */
  warmUp(): void;
  /** Rejects what is under way; once it resolves, no slot or descriptor is touched any more. May be called twice. */
  close(): Promise<void>;
}

export interface ExecutorOptions {
  /** Threads; 0 runs everything in the caller's thread, before the call returns. */
  readonly workers: number;
  readonly hash: HashName;
  /** zstd's. */
  readonly level: number;
  readonly clusterSizeBytes: number;
  /** All pools whose slots will be handed in. */
  readonly pools: readonly SlotPool[];
  /** 'reference' computes ids and seals in JavaScript, about a hundred times slower. */
  readonly implementation?: 'native' | 'reference';
  /** How much the threads stand back behind this one and other programs, as `nice` counts: 0 to 19. */
  readonly niceness?: number;
}

/** Cheap: threads start, all at once, with the first call, and never keep the process alive while idle. */
export function createExecutor(options: ExecutorOptions): Executor {
  return options.workers === 0 ? new InlineExecutor(options) : new ThreadedExecutor(options);
}
