// SPDX-License-Identifier: MIT
// Reads the map of one disk: pages by level and number, ids by cluster. Every page is checked against the id in the page
// above, so what it gives is what the manifest's root stands for, or a DamageError.

import { clusterCount, mapLevels, pageEntries, ZERO_ID } from '../../formats/vmar/map.js';
import { bytesEqual } from '../base/bytes.js';
import { divideUp } from '../base/checked.js';
import { DamageError } from '../base/errors.js';
import type { ChunkReader } from './chunk-reader.js';
import type { LikelyNext } from './chunk-source.js';
import { unplaced } from './unplaced.js';

/** Pages kept: 1 MiB at a fan-out of 128. */
const CACHED_PAGES = 256;

export interface MapShape {
  readonly root: Uint8Array;
  readonly sizeBytes: number;
  readonly clusterSizeBytes: number;
  readonly fanout: number;
}

/** What pages are read by; one without `beside` does not search. */
export type PageReader = Pick<ChunkReader, 'read'> & Partial<Pick<ChunkReader, 'beside'>>;

/** A page's ids end to end, or 'zero' where all below it is zero. */
export type MapPage = Uint8Array | 'zero';

export class MapReader {
  readonly clusters: number;
  readonly levels: number;
  readonly fanout: number;
  readonly root: Uint8Array;
  readonly #chunks: PageReader;
  readonly #cache = new Map<string, MapPage>();

  constructor(chunks: PageReader, shape: MapShape) {
    this.#chunks = chunks;
    this.root = shape.root;
    this.fanout = shape.fanout;
    this.clusters = clusterCount(shape.sizeBytes, shape.clusterSizeBytes);
    this.levels = mapLevels(this.clusters, shape.fanout);
  }

  /** Pages of level 1. */
  get leafCount(): number {
    return divideUp(this.clusters, this.fanout);
  }

  /** One page. @throws DamageError if it, or one above it, is damaged or gone. */
  async page(level: number, index: number): Promise<MapPage> {
    const key = `${level}:${index}`;
    const cached = this.#cache.get(key);
    if (cached !== undefined) return cached;
    const id = await this.pageId(level, index);
    const page = isZeroId(id) ? 'zero' : this.#checked(await this.#read(id, level, index), level, index);
    this.#remember(key, page);
    return page;
  }

  /** Where a page is lost, others after it are likely to be. */
  async #read(id: Uint8Array, level: number, index: number): Promise<Uint8Array> {
    const firstCluster = index * this.fanout ** level;
    const next: LikelyNext = () => {
      const chunks = this.#chunks.beside?.();
      return chunks === undefined ? [] : unplaced({ map: this, chunks, firstCluster, leastLevel: 1 });
    };
    return await this.#chunks.read(id, level, next);
  }

  /** The page if it is cached, so that a hot loop need not wait a turn. */
  cachedPage(level: number, index: number): MapPage | undefined {
    return this.#cache.get(`${level}:${index}`);
  }

  /** The id of a page, by the page above it. Level 0 asks for a cluster's id. */
  async pageId(level: number, index: number): Promise<Uint8Array> {
    if (level === this.levels) return this.root;
    const above = await this.page(level + 1, Math.floor(index / this.fanout));
    if (above === 'zero') return ZERO_ID;
    const at = (index % this.fanout) * 32;
    return above.subarray(at, at + 32);
  }

  /** Whether a page has this id; false where the pages above it are damaged. */
  async hasPage(level: number, index: number, id: Uint8Array): Promise<boolean> {
    try {
      return bytesEqual(await this.pageId(level, index), id);
    } catch (error) {
      if (error instanceof DamageError) return false;
      throw error;
    }
  }

  #checked(bytes: Uint8Array, level: number, index: number): Uint8Array {
    const expected = pageEntries(level, index, this.clusters, this.fanout) * 32;
    if (bytes.byteLength !== expected) {
      throw new DamageError('map-page-length', 'a map page has the wrong length', {
        expected: `${expected} bytes`,
        found: `${bytes.byteLength} bytes`,
      });
    }
    // A copy of its own: the frame that it came from is large and soon dropped.
    return Uint8Array.prototype.slice.call(bytes);
  }

  #remember(key: string, page: MapPage): void {
    this.#cache.set(key, page);
    if (this.#cache.size <= CACHED_PAGES) return;
    const oldest = this.#cache.keys().next();
    if (!oldest.done) this.#cache.delete(oldest.value);
  }
}

/** True for the id that stands for zeros. */
export function isZeroId(id: Uint8Array): boolean {
  for (let at = 0; at < 32; at++) if (id[at] !== 0) return false;
  return true;
}
