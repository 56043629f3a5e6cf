// SPDX-License-Identifier: MIT
// Takes chunks out of a container's frames and puts them where they belong: in a file, a device or a slot.

import { type HashName, ID_BYTES } from '../../formats/vmar/hash.js';
import { MAX_FRAME_BYTES } from '../../formats/vmar/limits.js';
import { ExtractWriter } from './extract-writer.js';
import { openFrame } from './frame-open.js';
import { readWhole } from './positioned-read.js';
import type { SlotMemory } from './slot-memory.js';
import type { Slot } from './slots.js';
import { chunkHasher, type Implementation, Scratch } from './thread-tools.js';

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
  /** The target refused O_DIRECT (EINVAL); the rest was written through `fd`. */
  readonly directRefused: boolean;
}

/** The target as tasks see it. */
export type TaskTarget = FileTarget | { readonly kind: 'slot'; readonly memory: SlotMemory };

const storedScratch = new Scratch();

/** See Executor.extract. */
export function extract(
  job: Omit<ExtractJob, 'target'>,
  target: TaskTarget,
  hash: HashName,
  implementation: Implementation,
): ExtractReport {
  const damaged: ExtractDamage[] = [];
  const writer = new ExtractWriter(target);
  const check = new ChunkCheck(hash, implementation);
  for (const [index, frame] of job.frames.entries()) {
    const raw = readFrame(job, frame, hash, implementation, writer.memoryAlignment);
    if (typeof raw === 'string') {
      const lengthBytes = frame.chunks.reduce((sum, chunk) => sum + chunk.lengthBytes, 0);
      const targetOffset = frame.chunks[0]?.targetOffset ?? 0;
      damaged.push({ frame: index, chunk: undefined, problem: raw, targetOffset, lengthBytes });
      continue;
    }
    check.begin(raw);
    for (const [number, chunk] of frame.chunks.entries()) {
      const { targetOffset, lengthBytes } = chunk;
      if (check.passes(chunk)) writer.put(raw, chunk.offsetInFrame, lengthBytes, targetOffset);
      else damaged.push({ frame: index, chunk: number, problem: 'id', targetOffset, lengthBytes });
    }
    writer.flush();
  }
  return { damaged, bytesWritten: writer.bytesWritten, directRefused: writer.directRefused };
}

function readFrame(
  job: Omit<ExtractJob, 'target'>,
  frame: ExtractFrame,
  hash: HashName,
  implementation: Implementation,
  alignment: 1 | 4096,
): Buffer | ExtractDamage['problem'] {
  // Numbers come from a file: nothing is allocated for more than a frame may be.
  if (frame.storedBytes > MAX_FRAME_BYTES || frame.rawBytes > MAX_FRAME_BYTES) return 'decompress';
  const stored = storedScratch.take(frame.storedBytes, alignment);
  if (readWhole(job.fd, stored, frame.storedBytes, frame.offsetBytes, job.object) !== 'ok') return 'read-error';
  return openFrame(frame, stored, hash, implementation, alignment);
}

/** Checks ids of chunks of one frame; a chunk that goes to several places in a row is hashed once. */
class ChunkCheck {
  readonly #hash: HashName;
  readonly #implementation: Implementation;
  readonly #id = Buffer.alloc(ID_BYTES);
  #raw: Buffer = Buffer.alloc(0);
  #offset = -1;
  #length = -1;
  #kind = -1;

  constructor(hash: HashName, implementation: Implementation) {
    this.#hash = hash;
    this.#implementation = implementation;
  }

  begin(raw: Buffer): void {
    this.#raw = raw;
    this.#offset = -1;
  }

  passes(chunk: ExtractChunk): boolean {
    const { offsetInFrame, lengthBytes, kind } = chunk;
    if (offsetInFrame + lengthBytes > this.#raw.byteLength) return false;
    if (offsetInFrame !== this.#offset || lengthBytes !== this.#length || kind !== this.#kind) {
      const bytes = this.#raw.subarray(offsetInFrame, offsetInFrame + lengthBytes);
      chunkHasher(this.#hash, kind, this.#implementation).into(bytes, this.#id);
      this.#offset = offsetInFrame;
      this.#length = lengthBytes;
      this.#kind = kind;
    }
    return this.#id.equals(chunk.id);
  }
}
