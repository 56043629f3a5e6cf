// SPDX-License-Identifier: MIT
// One disk of a backup on its way into an archive: its map under construction, its parent, its counts.

import { clusterCount, ZERO_ID } from '../../formats/vmar/map.js';
import { DamageError, UsageError } from '../base/errors.js';
import type { DiskCounts, DiskDescription } from '../plugin-api.js';
import { MapBuilder } from './map-builder.js';
import type { MapPage, MapReader } from './map-reader.js';
import type { Scratch } from './scratch.js';
import { StreamIds } from './stream-ids.js';

export interface IntakeOptions {
  readonly description: DiskDescription;
  readonly clusterSizeBytes: number;
  readonly fanout: number;
  /** The disk's own. */
  readonly scratch: Scratch;
  readonly parent: MapReader | undefined;
  /** Stores a page unless it is known; gives its id. */
  readonly onPage: (level: number, index: number, page: Uint8Array) => Promise<Uint8Array>;
}

/** Each costs a search through all packs; after so many the parent is compared with no more. */
const MOST_LOST_PAGES = 16;

export class DiskIntake {
  readonly name: string;
  readonly parent: MapReader | undefined;
  readBytes = 0;
  zeroBytes = 0;
  unchangedBytes = 0;
  newBytes = 0;
  storedBytes = 0;
  /** Leaf pages of the parent that turned out damaged: a comparison less is no reason to fail. */
  readonly #lostPages = new Set<number>();
  readonly #options: IntakeOptions;
  #map: MapBuilder | undefined;
  #stream: StreamIds | undefined;
  #sizeBytes: number | undefined;

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.name = options.description.name;
    this.parent = options.parent;
    this.#sizeBytes = options.description.sizeBytes;
    if (this.#sizeBytes === undefined) this.#stream = new StreamIds(options.scratch);
    else this.#map = this.#newMap(this.#sizeBytes);
  }

  #newMap(sizeBytes: number): MapBuilder {
    const { clusterSizeBytes, fanout, scratch, onPage } = this.#options;
    const clusters = clusterCount(sizeBytes, clusterSizeBytes);
    const scratchOffsetBytes = this.#stream?.scratchBytes ?? 0;
    return new MapBuilder({ clusters, fanout, scratch, scratchOffsetBytes, onPage, disk: this.name });
  }

  get sizeBytes(): number {
    return this.#sizeBytes ?? 0;
  }

  get levels(): number {
    return this.#map?.levels ?? 0;
  }

  /** Bytes of `count` clusters from `first` on, the last one at its true length. */
  rangeBytes(first: number, count: number): number {
    const { clusterSizeBytes } = this.#options;
    const end = (first + count) * clusterSizeBytes;
    return Math.min(end, this.#sizeBytes ?? end) - first * clusterSizeBytes;
  }

  /** Refuses a piece that is not whole clusters of the disk. */
  checkPiece(cluster: number, lengthBytes: number): void {
    const { clusterSizeBytes } = this.#options;
    const start = cluster * clusterSizeBytes;
    const end = start + lengthBytes;
    const whole = lengthBytes % clusterSizeBytes === 0 && (this.#sizeBytes === undefined || end <= this.#sizeBytes);
    const tail = end === this.#sizeBytes || (this.#sizeBytes === undefined && lengthBytes > 0);
    if (Number.isSafeInteger(cluster) && cluster >= 0 && lengthBytes > 0 && (whole || tail)) return;
    throw new UsageError('piece-shape', `clusters dumped of disk ${this.name} are not whole or past its end`, {
      object: this.name,
      offsetBytes: start,
      found: `${lengthBytes} bytes`,
    });
  }

  set(cluster: number, id: Uint8Array | undefined): void {
    if (this.#map !== undefined) this.#map.set(cluster, id);
    else this.#stream?.set(cluster, id);
  }

  async settle(): Promise<void> {
    await this.#map?.drain();
  }

  async setZeroRange(first: number, count: number): Promise<void> {
    if (this.#map !== undefined) await this.#map.setRange(first, count, undefined);
    else for (let cluster = first; cluster < first + count; cluster++) this.#stream?.set(cluster, undefined);
  }

  async setParentRange(first: number, count: number): Promise<void> {
    const { parent } = this;
    if (this.#map === undefined || parent === undefined) {
      throw new UsageError('no-parent', `disk ${this.name} has no parent to be the same as`, { object: this.name });
    }
    await this.#map.setRange(first, count, async (level, index) => await parent.pageId(level - 1, index));
  }

  /** The parent's pages over a range of clusters, by page number; empty without a parent. */
  async parentPages(first: number, count: number): Promise<Map<number, MapPage>> {
    const pages = new Map<number, MapPage>();
    const { parent } = this;
    if (parent === undefined) return pages;
    const lastPage = Math.floor((first + count - 1) / parent.fanout);
    for (let page = Math.floor(first / parent.fanout); page <= lastPage; page++) {
      if (this.#lostPages.has(page) || this.#lostPages.size >= MOST_LOST_PAGES) continue;
      try {
        pages.set(page, parent.cachedPage(1, page) ?? (await parent.page(1, page)));
      } catch (error) {
        if (!(error instanceof DamageError)) throw error;
        this.#lostPages.add(page);
      }
    }
    return pages;
  }

  /** Fixes the length of a stream, and builds its map. */
  async endStream(sizeBytes: number): Promise<void> {
    const stream = this.#stream;
    if (stream === undefined) {
      throw new UsageError('not-a-stream', `disk ${this.name} has a length already`, { object: this.name });
    }
    const clusters = clusterCount(sizeBytes, this.#options.clusterSizeBytes);
    const map = this.#newMap(sizeBytes);
    if (stream.clusters > clusters) {
      throw new UsageError('cluster-outside', `the stream ${this.name} ends before its last cluster`, {
        object: this.name,
      });
    }
    for (let cluster = 0; cluster < clusters; cluster++) {
      const id = stream.get(cluster);
      if (id !== undefined) map.set(cluster, id === 'zero' ? undefined : id);
      if (cluster % 1024 === 0) await map.drain();
    }
    await map.drain();
    this.#sizeBytes = sizeBytes;
    this.#map = map;
    this.#stream = undefined;
  }

  /** The map's root id. */
  async finish(): Promise<Uint8Array> {
    if (this.#map === undefined) {
      throw new UsageError('stream-open', `the end of the stream ${this.name} was never told`, { object: this.name });
    }
    return this.sizeBytes === 0 ? ZERO_ID : await this.#map.finish();
  }

  counts(): DiskCounts {
    const { name, sizeBytes, readBytes, zeroBytes, unchangedBytes, newBytes, storedBytes } = this;
    return { name, sizeBytes, readBytes, zeroBytes, unchangedBytes, newBytes, storedBytes: Math.round(storedBytes) };
  }
}
