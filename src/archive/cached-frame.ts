// SPDX-License-Identifier: MIT
// One frame in the cache: on its way, there, or not to be had. Its bytes are given out chunk by chunk, and only those
// that match the chunk's id.

import type { HashName } from '../../formats/vmar/hash.js';
import type { TableFrame } from '../../formats/vmar/trailer.js';
import { asBuffer, bytesEqual } from '../base/bytes.js';
import type { VmarError } from '../base/errors.js';
import type { LoadChunk } from '../pipeline/executor.js';
import { chunkHasher } from '../pipeline/thread-tools.js';
import type { ContainerReader } from '../store/container-reader.js';

type FrameState = 'waiting' | 'loading' | 'loaded' | 'failed';

interface CheckedChunk {
  readonly lengthBytes: number;
  readonly id: Uint8Array;
}

export class CachedFrame {
  state: FrameState = 'waiting';
  /** Somebody waits for it. */
  urgent = false;
  /** To be checked when it is loaded. */
  wanted: readonly LoadChunk[];
  #memory: SharedArrayBuffer | undefined;
  /** Why it is 'failed', or damaged although it is 'loaded'. */
  problem: VmarError | undefined;
  /** Resolves when it is loaded or failed. */
  readonly settled: Promise<void>;
  #settle: () => void = () => {};
  #raw: Buffer | undefined;
  #holders = 0;
  /** Chunks known to match, by their offsets. */
  readonly #checked = new Map<number, CheckedChunk>();

  constructor(
    readonly key: string,
    readonly container: ContainerReader,
    readonly entry: TableFrame,
    wanted: readonly LoadChunk[],
  ) {
    this.wanted = wanted;
    this.settled = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  get isHeld(): boolean {
    return this.#holders > 0;
  }

  /** Keeps it in memory until `letGo`. */
  hold(): void {
    this.#holders++;
  }

  letGo(): void {
    this.#holders--;
  }

  /** It is in memory; `good` tells which of the chunks that were wanted match their ids. */
  load(memory: SharedArrayBuffer, good: Uint8Array): void {
    this.#memory = memory;
    this.#raw = Buffer.from(memory, 0, this.entry.rawBytes);
    for (const [index, { offsetInFrame, lengthBytes, id }] of this.wanted.entries()) {
      if (good[index] === 1) this.#checked.set(offsetInFrame, { lengthBytes, id });
    }
    this.state = 'loaded';
    this.wanted = [];
    this.#settle();
  }

  /** Takes its memory away. */
  unload(): SharedArrayBuffer | undefined {
    const memory = this.#memory;
    this.#memory = undefined;
    this.#raw = undefined;
    this.#checked.clear();
    return memory;
  }

  fail(problem: VmarError): void {
    this.problem = problem;
    this.state = 'failed';
    this.#settle();
  }

  /**
   * The bytes of a data chunk, valid while the frame is held or until the caller's next wait; undefined if they are not
   * what the id says. One that nobody asked for before is checked here.
   */
  chunk(offsetBytes: number, lengthBytes: number, id: Uint8Array, hash: HashName): Buffer | undefined {
    const raw = this.#raw;
    if (raw === undefined || offsetBytes + lengthBytes > raw.byteLength) return undefined;
    const bytes = raw.subarray(offsetBytes, offsetBytes + lengthBytes);
    const checked = this.#checked.get(offsetBytes);
    if (checked !== undefined && checked.lengthBytes === lengthBytes && bytesEqual(checked.id, id)) return bytes;
    const found = chunkHasher(hash, 0, 'native').digest(bytes);
    if (!asBuffer(found).equals(id)) return undefined;
    this.#checked.set(offsetBytes, { lengthBytes, id: Uint8Array.from(id) });
    return bytes;
  }
}
