// SPDX-License-Identifier: MIT
// What main thread and workers say to each other. The frequent tasks are flat arrays of small integers, their results
// lie in the slots, and their answer is a number: a message costs microseconds, and there are thousands a second.

import { type HashName, ID_BYTES, SEAL_BYTES } from '../../formats/vmar/hash.js';
import type { ErrorMessage } from './error-message.js';
import type { ExtractChunk, ExtractFrame, ExtractReport, FileTarget } from './extract-job.js';
import type { LoadChunk, LoadReport } from './load-job.js';
import type { SharedSlots } from './slot-memory.js';
import type { Implementation } from './thread-tools.js';
import type { VerifyJob, VerifyReport } from './verify-job.js';

/** Handed to a worker at its start. */
export interface WorkerSettings {
  readonly hash: HashName;
  readonly level: number;
  readonly implementation: Implementation;
  readonly pools: readonly SharedSlots[];
  /** Of the threads, as `nice` counts; 0 is that of the process. */
  readonly niceness: number;
}

export const HASH_SLOT = 0;
export const COMPRESS = 1;
export const INTAKE = 2;

/**
 * `[HASH_SLOT, pool, slot, lengthBytes]`, `[COMPRESS, pool, slot, then for each run: pool, slot, offset, length]`, or
 * `[INTAKE, pool, slot, lengthBytes, fd or -1, offset, pool and slot to compress into or -1, -1]`.
 */
export type SlotTask = readonly number[];

export interface ExtractTask {
  readonly task: 'extract';
  readonly fd: number;
  readonly object: string;
  /** See `packFrames`. */
  readonly numbers: Float64Array<ArrayBuffer>;
  readonly hashes: Uint8Array<ArrayBuffer>;
  readonly target: FileTarget | { readonly kind: 'slot'; readonly pool: number; readonly slot: number };
}

export interface LoadTask {
  readonly task: 'load';
  readonly fd: number;
  readonly object: string;
  /** One frame; see `packFrames`. */
  readonly numbers: Float64Array<ArrayBuffer>;
  readonly hashes: Uint8Array<ArrayBuffer>;
  readonly memory: SharedArrayBuffer;
}

export interface CarryTask extends Omit<LoadTask, 'task' | 'memory'> {
  readonly task: 'carry';
  readonly pool: number;
  readonly slot: number;
}

export interface VerifyTask {
  readonly task: 'verify';
  readonly job: VerifyJob;
}

export type Task = SlotTask | ExtractTask | LoadTask | CarryTask | VerifyTask;

/** The answer to a SlotTask that went well; an intake answers with the bytes that it could read. */
export const DONE = 0;

export type Answer =
  | number
  | { readonly report: ExtractReport | LoadReport | VerifyReport }
  | { readonly error: ErrorMessage };

const FRAME_NUMBERS = 5;
const CHUNK_NUMBERS = 4;

interface PackedFrame extends Omit<ExtractFrame, 'chunks'> {
  /** Those without a place in a target go to 0. */
  readonly chunks: readonly (LoadChunk & Partial<Pick<ExtractChunk, 'targetOffset'>>)[];
}

/** Frames and their chunks in two arrays: thousands of objects would cost more to clone than to extract. */
export function packFrames(frames: readonly PackedFrame[]): Pick<ExtractTask, 'numbers' | 'hashes'> {
  const chunks = frames.reduce((sum, frame) => sum + frame.chunks.length, 0);
  const numbers = new Float64Array(frames.length * FRAME_NUMBERS + chunks * CHUNK_NUMBERS);
  const hashes = new Uint8Array(frames.length * SEAL_BYTES + chunks * ID_BYTES);
  let number = 0;
  let hash = 0;
  for (const frame of frames) {
    numbers[number++] = frame.offsetBytes;
    numbers[number++] = frame.storedBytes;
    numbers[number++] = frame.rawBytes;
    numbers[number++] = frame.codec;
    numbers[number++] = frame.chunks.length;
    hashes.set(frame.seal, hash);
    hash += SEAL_BYTES;
    for (const chunk of frame.chunks) {
      numbers[number++] = chunk.offsetInFrame;
      numbers[number++] = chunk.lengthBytes;
      numbers[number++] = chunk.kind;
      numbers[number++] = chunk.targetOffset ?? 0;
      hashes.set(chunk.id, hash);
      hash += ID_BYTES;
    }
  }
  return { numbers, hashes };
}

/** The reverse of `packFrames`; seals and ids are views of `hashes`. */
export function unpackFrames(numbers: Float64Array, hashes: Uint8Array): ExtractFrame[] {
  const frames: ExtractFrame[] = [];
  let number = 0;
  let hash = 0;
  const next = () => numbers[number++]!;
  const take = (length: number) => {
    hash += length;
    return hashes.subarray(hash - length, hash);
  };
  while (number < numbers.length) {
    const frame = { offsetBytes: next(), storedBytes: next(), rawBytes: next(), codec: next() };
    const count = next();
    const seal = take(SEAL_BYTES);
    const chunks: ExtractChunk[] = [];
    for (let chunk = 0; chunk < count; chunk++) {
      const where = { offsetInFrame: next(), lengthBytes: next(), kind: next(), targetOffset: next() };
      chunks.push({ ...where, id: take(ID_BYTES) });
    }
    frames.push({ ...frame, seal, chunks });
  }
  return frames;
}
