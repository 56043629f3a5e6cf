// SPDX-License-Identifier: MIT
// Decompressed frames of a backup's containers, within a bound of memory, the least recently used going first. Frames are
// loaded by the executor's threads, a few at a time, those that somebody waits for before those read ahead; two who want
// one frame share its loading. All disks of a backup share one cache.

import { availableParallelism } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import { MAX_FRAME_BYTES } from '../../formats/vmar/limits.js';
import { DamageError, FailedError, VmarError } from '../base/errors.js';
import { createExecutor, type Executor, type LoadChunk, type LoadReport } from '../pipeline/executor.js';
import type { ContainerReader } from '../store/container-reader.js';
import { CachedFrame } from './cached-frame.js';
import type { ChunkSource } from './chunk-source.js';
import { FrameMemory } from './frame-memory.js';

export const DEFAULT_CACHE_BYTES = 64 << 20;
/** Two of the largest frames, so that there is always room for the next. */
const LEAST_CACHE_BYTES = 2 * MAX_FRAME_BYTES;

export interface FrameCacheOptions {
  readonly executor?: Executor | undefined;
  readonly cacheBytes?: number | undefined;
}

/** What became of loading, since it began. */
export interface FrameCounts {
  frames: number;
  /** Read from containers. */
  storedBytes: number;
}

export class FrameCache {
  readonly #source: ChunkSource;
  readonly #memory: FrameMemory;
  /** By container and number; the least recently used first. */
  readonly #frames = new Map<string, CachedFrame>();
  readonly #urgent: CachedFrame[] = [];
  readonly #ahead: CachedFrame[] = [];
  readonly #mostAheadBytes: number;
  #aheadBytes = 0;
  #executor: Executor;
  #inline: boolean;
  #mostLoading: number;
  #loading = 0;
  #closed = false;
  #idle: (() => void) | undefined;
  readonly counts: FrameCounts = { frames: 0, storedBytes: 0 };

  constructor(source: ChunkSource, options: FrameCacheOptions) {
    const cacheBytes = Math.max(LEAST_CACHE_BYTES, options.cacheBytes ?? DEFAULT_CACHE_BYTES);
    this.#source = source;
    this.#memory = new FrameMemory(cacheBytes);
    this.#mostAheadBytes = cacheBytes / 2;
    this.#inline = options.executor === undefined;
    this.#executor = options.executor ?? inlineExecutor(source);
    this.#mostLoading = this.#inline ? 1 : Math.max(4, 2 * availableParallelism());
  }

  /** The frame if it is in memory. */
  get(key: string): CachedFrame | undefined {
    const frame = this.#frames.get(key);
    if (frame?.state !== 'loaded') return undefined;
    this.#frames.delete(key);
    this.#frames.set(key, frame);
    return frame;
  }

  /** Whether it is in memory or on its way. */
  has(key: string): boolean {
    return this.#frames.has(key);
  }

  /**
   * The frame, loaded already or soon; wait for `settled`. It is held for the caller, who lets it go.
   * @throws DamageError if the container's table does not have it.
   */
  request(container: ContainerReader, number: number, wanted: () => readonly LoadChunk[]): CachedFrame {
    const key = frameKey(container, number);
    const known = this.get(key) ?? this.#frames.get(key);
    const frame = known ?? this.#add(key, container, number, wanted());
    frame.hold();
    if (frame.state === 'waiting' && !frame.urgent) {
      frame.urgent = true;
      this.#urgent.push(frame);
      this.#pump();
    }
    return frame;
  }

  /** Has the frame loaded when nothing else is to be done; undefined where too much waits already. */
  ahead(container: ContainerReader, number: number, wanted: () => readonly LoadChunk[]): CachedFrame | undefined {
    const key = frameKey(container, number);
    const known = this.#frames.get(key);
    if (known !== undefined) return known;
    if (this.#aheadBytes >= this.#mostAheadBytes) return undefined;
    const frame = this.#add(key, container, number, wanted());
    this.#aheadBytes += frame.entry.rawBytes;
    this.#ahead.push(frame);
    this.#pump();
    return frame;
  }

  /** Says that a held frame is needed no more. */
  release(frame: CachedFrame): void {
    frame.letGo();
    this.#dropUnlisted(frame);
    if (this.#urgent.length + this.#ahead.length > 0) this.#pump();
  }

  /** Forgets all; resolves when no thread touches its memory or reads a container any more. */
  async close(): Promise<void> {
    this.#closed = true;
    const gone = new FailedError('closed', 'the backup was closed');
    for (const frame of [...this.#urgent.splice(0), ...this.#ahead.splice(0)]) {
      if (frame.state === 'waiting') frame.fail(gone);
    }
    if (this.#loading > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    this.#frames.clear();
  }

  #add(key: string, container: ContainerReader, number: number, wanted: readonly LoadChunk[]): CachedFrame {
    const frame = new CachedFrame(key, container, container.frame(number), wanted);
    if (this.#closed) frame.fail(new FailedError('closed', 'the backup was closed'));
    else this.#frames.set(key, frame);
    return frame;
  }

  /** Starts what can be started. */
  #pump(): void {
    while (this.#loading < this.#mostLoading) {
      const frame = this.#urgent[0] ?? this.#ahead[0];
      if (frame === undefined) return;
      if (frame.state === 'waiting') {
        const memory = this.#room(frame.entry.rawBytes);
        if (memory === undefined) return;
        this.#start(frame, memory);
      }
      if (frame === this.#urgent[0]) this.#urgent.shift();
      else {
        this.#ahead.shift();
        this.#aheadBytes -= frame.entry.rawBytes;
      }
    }
  }

  /** Memory for a frame, taken from the least recently used ones where it must be. */
  #room(lengthBytes: number): SharedArrayBuffer | undefined {
    const length = Math.min(lengthBytes, MAX_FRAME_BYTES);
    let memory = this.#memory.take(length);
    if (memory !== undefined) return memory;
    for (const frame of this.#frames.values()) {
      if (frame.state !== 'loaded' || frame.isHeld) continue;
      this.#evict(frame);
      memory = this.#memory.take(length);
      if (memory !== undefined) return memory;
    }
    return undefined;
  }

  #evict(frame: CachedFrame): void {
    this.#frames.delete(frame.key);
    this.#dropUnlisted(frame);
  }

  /** Gives back the memory of a frame that nobody can ask for and nobody holds. */
  #dropUnlisted(frame: CachedFrame): void {
    if (frame.isHeld || this.#frames.get(frame.key) === frame) return;
    const memory = frame.unload();
    if (memory !== undefined) this.#memory.giveBack(memory);
  }

  #start(frame: CachedFrame, memory: SharedArrayBuffer): void {
    frame.state = 'loading';
    this.#loading++;
    this.counts.frames++;
    this.counts.storedBytes += frame.entry.storedBytes;
    void this.#load(frame, memory).finally(() => {
      this.#loading--;
      if (this.#loading === 0) this.#idle?.();
      this.#pump();
    });
  }

  async #load(frame: CachedFrame, memory: SharedArrayBuffer): Promise<void> {
    try {
      if (this.#inline) await setImmediate();
      const report = await this.#run(frame, memory);
      frame.problem = problemOf(frame, report);
      frame.load(memory, report.good);
      // What could not be read at all is not kept: it is tried again.
      if (report.problem === 'read-error') {
        this.#frames.delete(frame.key);
        this.#dropUnlisted(frame);
      }
    } catch (error) {
      this.#frames.delete(frame.key);
      this.#memory.forget(memory);
      if (isGone(error) && !this.#closed) this.#loadInline(frame);
      else
        frame.fail(
          error instanceof VmarError ? error : new FailedError('read-failed', String(error), { cause: error }),
        );
    }
  }

  async #run(frame: CachedFrame, memory: SharedArrayBuffer): Promise<LoadReport> {
    const { container, entry } = frame;
    container.pin();
    try {
      const job = { fd: container.fd, object: container.path, frame: entry, chunks: frame.wanted, memory };
      return await this.#executor.load(job);
    } finally {
      container.unpin();
    }
  }

  /** The threads are gone: from here on this thread does their work. */
  #loadInline(frame: CachedFrame): void {
    if (!this.#inline) this.#executor = inlineExecutor(this.#source);
    this.#inline = true;
    this.#mostLoading = 1;
    frame.state = 'waiting';
    this.#frames.set(frame.key, frame);
    this.#urgent.push(frame);
  }
}

export function frameKey(container: ContainerReader, number: number): string {
  return `${number}@${container.path}`;
}

function inlineExecutor(source: ChunkSource): Executor {
  return createExecutor({ workers: 0, hash: source.hash, level: 1, clusterSizeBytes: 0, pools: [] });
}

function isGone(error: unknown): boolean {
  return error instanceof FailedError && (error.code === 'worker-died' || error.code === 'executor-closed');
}

const PROBLEMS = {
  'read-error': { code: 'container-unreadable', message: 'a frame cannot be read' },
  seal: { code: 'frame-damaged', message: 'a frame does not match its seal' },
  decompress: { code: 'frame-damaged', message: 'a frame cannot be decompressed' },
} as const;

function problemOf(frame: CachedFrame, { problem }: LoadReport): DamageError | undefined {
  if (problem === undefined) return undefined;
  const { code, message } = PROBLEMS[problem];
  return new DamageError(code, message, { object: frame.container.path, offsetBytes: frame.entry.offsetBytes });
}
