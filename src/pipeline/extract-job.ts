// SPDX-License-Identifier: MIT
// What to take out of a container, where to put it, and what came of it.

import type { SlotMemory } from './slot-memory.js';
import type { Slot } from './slots.js';

export interface ExtractChunk {
  readonly offsetInFrame: number;
  readonly lengthBytes: number;
  /** 32 bytes. */
  readonly id: Uint8Array;
  readonly kind: number;
  /** Where it goes: bytes from the start of the target. */
  readonly targetOffset: number;
}

export interface ExtractFrame {
  readonly offsetBytes: number;
  readonly storedBytes: number;
  readonly rawBytes: number;
  readonly codec: number;
  /** 16 bytes. */
  readonly seal: Uint8Array;
  /** The chunks wanted, best in the order of the frame: neighbours that are neighbours in the target share a write. */
  readonly chunks: readonly ExtractChunk[];
}

export interface FileTarget {
  readonly kind: 'file';
  readonly fd: number;
  /** The same file opened with O_DIRECT, or -1. */
  readonly directFd: number;
  /** What offsets and lengths of direct writes must be multiples of. */
  readonly alignment: number;
  /** For messages. */
  readonly object?: string;
}

export interface SlotTarget {
  readonly kind: 'slot';
  readonly slot: Slot;
}

export type ExtractTarget = FileTarget | SlotTarget;

export interface ExtractJob {
  /** Of the container; stays open until the promise settles. */
  readonly fd: number;
  /** The container, for messages. */
  readonly object: string;
  readonly frames: readonly ExtractFrame[];
  readonly target: ExtractTarget;
}

export interface ExtractDamage {
  /** Index in the job. */
  readonly frame: number;
  /** Index in the frame's `chunks`; undefined = all of them, by damage of the whole frame. */
  readonly chunk: number | undefined;
  readonly problem: 'read-error' | 'seal' | 'decompress' | 'id';
  /** Of the chunk; of a whole frame its first chunk's. */
  readonly targetOffset: number;
  /** Of the chunk; of a whole frame the sum over its chunks. */
  readonly lengthBytes: number;
}

export interface ExtractReport {
  readonly damaged: ExtractDamage[];
  readonly bytesWritten: number;
  /** The target refused O_DIRECT (EINVAL) and all else was written through `fd`; its next jobs will not try again. */
  readonly directRefused: boolean;
}

/** The target as tasks see it. */
export type TaskTarget = FileTarget | { readonly kind: 'slot'; readonly memory: SlotMemory };
