// SPDX-License-Identifier: MIT
// What the open disks of one backup share: the frames in memory, the search for chunks that are not where they should be,
// and the reader of map pages. Made with the first disk, gone with the last.

import { ChunkReader } from './chunk-reader.js';
import { ChunkSearch } from './chunk-search.js';
import type { ChunkSource, LikelyNext } from './chunk-source.js';
import { FrameCache, type FrameCacheOptions } from './frame-cache.js';

const open = new WeakMap<ChunkSource, BackupReading>();

export class BackupReading {
  readonly source: ChunkSource;
  readonly frames: FrameCache;
  readonly search: ChunkSearch;
  readonly #chunks: ChunkReader;
  /** Told when places that disks remember may not be right any more. */
  readonly #forgetters = new Set<() => void>();
  #users = 0;

  private constructor(source: ChunkSource, options: FrameCacheOptions) {
    this.source = source;
    this.frames = new FrameCache(source, options);
    this.search = new ChunkSearch(source, {
      onAway: () => {
        for (const forget of this.#forgetters) forget();
      },
    });
    this.#chunks = new ChunkReader(source);
  }

  /** The one of a backup; the options count for the first disk only. */
  static of(source: ChunkSource, options: FrameCacheOptions): BackupReading {
    let reading = open.get(source);
    if (reading === undefined) {
      reading = new BackupReading(source, options);
      open.set(source, reading);
    }
    return reading;
  }

  join(forget: () => void): void {
    this.#users++;
    this.#forgetters.add(forget);
  }

  async leave(forget: () => void): Promise<void> {
    if (!this.#forgetters.delete(forget)) return;
    this.#users--;
    if (this.#users > 0) return;
    open.delete(this.source);
    await this.frames.close();
  }

  /** A map page. @throws DamageError, or FailedError 'store-unreachable'. */
  async read(id: Uint8Array, level: number, next?: LikelyNext): Promise<Uint8Array> {
    return await this.search.read(this.#chunks, id, level, next);
  }

  beside(): ChunkReader {
    return this.#chunks.beside();
  }
}
