// SPDX-License-Identifier: MIT
// Where the clusters of a disk lie, remembered for the pages of the map in use: a look into the index costs more than a
// small read out of the cache.

import { DamageError } from '../base/errors.js';
import type { LoadChunk } from '../pipeline/executor.js';
import type { ChunkPlace, ChunkSource } from './chunk-source.js';
import { isZeroId } from './map-reader.js';

/** Map pages whose places are kept: 1 GiB of a disk, with clusters of 64 KiB. */
const KEPT_PAGES = 128;
/** Clusters elsewhere in a row after which no more of the same frame is looked for. */
const MOST_STRAYS = 4;

type Places = (ChunkPlace | 'nowhere' | undefined)[];

/** A page of level 1: its number, and its ids end to end. */
export interface LeafPage {
  readonly index: number;
  readonly ids: Uint8Array;
}

export interface DiskShape {
  readonly sizeBytes: number;
  readonly clusterSizeBytes: number;
  readonly fanout: number;
}

export class DiskPlaces {
  readonly #source: ChunkSource;
  readonly #shape: DiskShape;
  readonly #pages = new Map<number, Places>();

  constructor(source: ChunkSource, shape: DiskShape) {
    this.#source = source;
    this.#shape = shape;
  }

  /** The likely place of a cluster that is not zero, by its entry in the page; undefined if none is known. */
  place(page: LeafPage, entry: number): ChunkPlace | undefined {
    const places = this.#of(page);
    places[entry] ??= this.#locate(page, entry) ?? 'nowhere';
    const place = places[entry];
    return place === 'nowhere' ? undefined : place;
  }

  /** Remembers where a cluster was found. */
  found(page: LeafPage, entry: number, place: ChunkPlace): void {
    this.#of(page)[entry] = place;
  }

  /** A cluster's chunk and, if they are wanted, those of the page's other clusters that lie in the same frame. */
  together(page: LeafPage, entry: number, withNeighbours: boolean): LoadChunk[] {
    const first = this.place(page, entry);
    if (first === undefined) return [];
    const chunks = [this.#chunk(page, entry, first)];
    if (!withNeighbours) return chunks;
    for (const step of [1, -1]) {
      let strays = 0;
      for (let at = entry + step; at >= 0 && at * 32 < page.ids.byteLength && strays < MOST_STRAYS; at += step) {
        if (isZeroId(idOf(page, at))) continue;
        const place = this.place(page, at);
        if (place?.container === first.container && place.frame === first.frame) {
          chunks.push(this.#chunk(page, at, place));
          strays = 0;
        } else strays++;
      }
    }
    // In the order of the frame a chunk that stands for several clusters is checked once.
    return chunks.sort((a, b) => a.offsetInFrame - b.offsetInFrame);
  }

  forget(): void {
    this.#pages.clear();
  }

  lengthOf(cluster: number): number {
    const { clusterSizeBytes, sizeBytes } = this.#shape;
    return Math.min(clusterSizeBytes, sizeBytes - cluster * clusterSizeBytes);
  }

  #chunk(page: LeafPage, entry: number, { offsetBytes, lengthBytes }: ChunkPlace): LoadChunk {
    return { offsetInFrame: offsetBytes, lengthBytes, id: Uint8Array.from(idOf(page, entry)), kind: 0 };
  }

  #of({ index }: LeafPage): Places {
    let places = this.#pages.get(index);
    if (places !== undefined) return places;
    places = [];
    this.#pages.set(index, places);
    if (this.#pages.size > KEPT_PAGES) {
      const oldest = this.#pages.keys().next();
      if (!oldest.done) this.#pages.delete(oldest.value);
    }
    return places;
  }

  #locate(page: LeafPage, entry: number): ChunkPlace | undefined {
    try {
      const place = this.#source.locate(idOf(page, entry));
      const expected = this.lengthOf(page.index * this.#shape.fanout + entry);
      return place?.lengthBytes === expected ? place : undefined;
    } catch (error) {
      if (error instanceof DamageError) return undefined;
      throw error;
    }
  }
}

export function idOf({ ids }: LeafPage, entry: number): Uint8Array {
  return ids.subarray(entry * 32, entry * 32 + 32);
}
