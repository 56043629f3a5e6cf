// SPDX-License-Identifier: MIT
// Walks the maps of a backup beside those of its relatives at the destination, and tells what the destination lacks.
//
// Guarantee: what is passed over is there. A page that has the same id as the page at its place in a relative, which is a
// backup that the destination has, was made of chunks that are there. That the destination has a page says nothing of
// what lies below it: a copy that was cut off may have left the page alone. So of all others every chunk is looked up.

import { setImmediate as letOthersRun } from 'node:timers/promises';
import type { ChunkEntry } from '../../../formats/vmar/extent.js';
import type { ManifestDisk } from '../../../formats/vmar/manifest.js';
import { VmarError } from '../../base/errors.js';
import { type IdTable, wordsOf } from '../../store/gc/id-table.js';
import type { ChunkReader } from '../chunk-reader.js';
import type { Relative } from '../datastore-vault.js';
import { isZeroId, MapReader } from '../map-reader.js';

const ID_BYTES = 32;
/** Pages before signals and timers get their turn: some milliseconds' worth. */
const PAGES_AT_ONCE = 16;
/** Pages that are remembered, so that what several places share is walked once. */
const MOST_REMEMBERED = 1 << 17;

export interface LackingOptions {
  /** At the source. */
  readonly reader: ChunkReader;
  readonly fanout: number;
  /** The guest's latest backup at the destination comes first: what is as in it is counted as unchanged. */
  readonly relatives: readonly Relative[];
  /** Whether the destination has a chunk or page. */
  readonly has: (id: Uint8Array) => boolean;
  /** A chunk that it lacks, each once; pages after all that lies below them. */
  readonly onChunk: (entry: ChunkEntry) => Promise<void>;
  readonly onPage: (bytes: Uint8Array, entry: ChunkEntry) => Promise<void>;
  /** Pages that were walked in this run; what lies below them is there, or on its way. */
  readonly walked?: IdTable;
  readonly onProgress: (bytes: number) => void;
  readonly signal: AbortSignal | undefined;
}

export interface DiskTally {
  zeroBytes: number;
  unchangedBytes: number;
}

/** One disk's walk. */
export class LackingWalk {
  readonly tally: DiskTally = { zeroBytes: 0, unchangedBytes: 0 };
  readonly #disk: ManifestDisk;
  readonly #index: number;
  readonly #map: MapReader;
  readonly #options: LackingOptions;
  readonly #relatives: { readonly map: MapReader; readonly note: () => void; readonly isLatest: boolean }[];
  /** By level and id. */
  readonly #remembered: Set<string>;
  #pages = 0;

  constructor(disk: ManifestDisk, index: number, remembered: Set<string>, options: LackingOptions) {
    this.#disk = disk;
    this.#index = index;
    this.#options = options;
    this.#remembered = remembered;
    const { mapRoot: root, sizeBytes, clusterSizeBytes } = disk;
    this.#map = new MapReader(options.reader, { root, sizeBytes, clusterSizeBytes, fanout: options.fanout });
    this.#relatives = options.relatives.flatMap(({ maps, note }, place) => {
      const map = maps[index];
      return map === undefined || map.levels !== this.#map.levels ? [] : [{ map, note, isLatest: place === 0 }];
    });
  }

  /** @throws DamageError if a page cannot be had at the source */
  async run(): Promise<void> {
    const { levels } = this.#map;
    if (levels > 0) await this.#walk(levels, 0, this.#disk.mapRoot);
  }

  async #walk(level: number, index: number, id: Uint8Array): Promise<void> {
    const bytes = this.#bytesBelow(level, index);
    if (isZeroId(id)) {
      this.tally.zeroBytes += bytes;
      this.#options.onProgress(bytes);
      return;
    }
    if ((await this.#isRelated(level, index, id, bytes)) || this.#wasWalked(level, id)) {
      this.#options.onProgress(bytes);
      return;
    }
    await this.#turn();
    const page = await this.#map.page(level, index);
    if (page === 'zero') return;
    if (level === 1) await this.#clusters(index, page);
    else {
      for (let at = 0, child = index * this.#map.fanout; at < page.byteLength; at += ID_BYTES, child++) {
        await this.#walk(level - 1, child, page.subarray(at, at + ID_BYTES));
      }
    }
    this.#remember(level, id);
    if (this.#options.has(id)) return;
    const entry = { id, lengthBytes: page.byteLength, kind: level, disk: this.#index, where: index };
    await this.#options.onPage(page, { ...entry, id: Uint8Array.from(id) });
  }

  async #clusters(index: number, page: Uint8Array): Promise<void> {
    const { clusterSizeBytes, sizeBytes } = this.#disk;
    const { fanout } = this.#map;
    const beside = await this.#pagesBeside(index);
    for (let entry = 0; entry * ID_BYTES < page.byteLength; entry++) {
      const where = index * fanout + entry;
      const lengthBytes = Math.min(clusterSizeBytes, sizeBytes - where * clusterSizeBytes);
      const id = page.subarray(entry * ID_BYTES, entry * ID_BYTES + ID_BYTES);
      if (isZeroId(id)) {
        this.tally.zeroBytes += lengthBytes;
        continue;
      }
      const same = beside.find((other) => sameAt(other.page, page, entry * ID_BYTES));
      if (same !== undefined) {
        same.note();
        if (same.isLatest) this.tally.unchangedBytes += lengthBytes;
      } else if (!this.#options.has(id)) {
        await this.#options.onChunk({ id: Uint8Array.from(id), lengthBytes, kind: 0, disk: this.#index, where });
      }
    }
    this.#options.onProgress(this.#bytesBelow(1, index));
  }

  /** The relatives' pages at the same place, as far as they can be read: the destination may be damaged. */
  async #pagesBeside(index: number) {
    const pages: { page: Uint8Array; note: () => void; isLatest: boolean }[] = [];
    for (const { map, note, isLatest } of this.#relatives) {
      const page = await readable(() => map.page(1, index));
      if (page instanceof Uint8Array) pages.push({ page, note, isLatest });
    }
    return pages;
  }

  async #isRelated(level: number, index: number, id: Uint8Array, bytes: number): Promise<boolean> {
    for (const { map, note, isLatest } of this.#relatives) {
      const other = await readable(() => map.pageId(level, index));
      if (other === undefined || Buffer.compare(other, id) !== 0) continue;
      note();
      if (isLatest) this.tally.unchangedBytes += bytes;
      return true;
    }
    return false;
  }

  #wasWalked(level: number, id: Uint8Array): boolean {
    const { walked } = this.#options;
    if (walked !== undefined && walked.find(wordsOf(id), 0) >= 0) return true;
    return this.#remembered.has(nameOf(level, id));
  }

  #remember(level: number, id: Uint8Array): void {
    if (this.#remembered.size >= MOST_REMEMBERED) this.#remembered.clear();
    this.#remembered.add(nameOf(level, id));
  }

  #bytesBelow(level: number, index: number): number {
    const span = this.#map.fanout ** level * this.#disk.clusterSizeBytes;
    return Math.min(span, this.#disk.sizeBytes - index * span);
  }

  async #turn(): Promise<void> {
    if (this.#pages++ % PAGES_AT_ONCE !== 0) return;
    await letOthersRun();
    this.#options.signal?.throwIfAborted();
  }
}

async function readable<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof VmarError) return undefined;
    throw error;
  }
}

function sameAt(a: Uint8Array, b: Uint8Array, at: number): boolean {
  if (a.byteLength < at + ID_BYTES) return false;
  for (let byte = at; byte < at + ID_BYTES; byte++) if (a[byte] !== b[byte]) return false;
  return true;
}

function nameOf(level: number, id: Uint8Array): string {
  return `${level}${Buffer.from(id.buffer, id.byteOffset, ID_BYTES).toString('latin1')}`;
}
