// SPDX-License-Identifier: MIT
// One frame to be had as raw bytes in shared memory, and what came of it.

import type { ExtractChunk, ExtractFrame } from './extract-job.js';
import type { Slot } from './slots.js';

export type LoadChunk = Omit<ExtractChunk, 'targetOffset'>;

export interface LoadJob {
  /** Of the container; stays open until the promise settles. */
  readonly fd: number;
  /** The container, for messages. */
  readonly object: string;
  readonly frame: Omit<ExtractFrame, 'chunks'>;
  /** To be checked against their ids; others of the frame may be checked by the caller later. */
  readonly chunks: readonly LoadChunk[];
  /** Takes the raw bytes at its start; nobody else touches it before the promise settles. */
  readonly memory: SharedArrayBuffer;
}

/** One frame to be had as it is stored. */
export interface CarryJob extends Omit<LoadJob, 'memory'> {
  /** Takes the stored bytes at its start. */
  readonly into: Slot;
}

export interface LoadReport {
  /**
   * What is wrong with the frame as a whole. Its raw bytes are then what could be had of them, and other bytes in
   * between: a chunk of it counts only if it matches its id, and often does.
   */
  readonly problem: 'read-error' | 'seal' | 'decompress' | undefined;
  /** A byte for each chunk: 1 if it lies in the memory and is what its id says. */
  readonly good: Uint8Array;
}
