// SPDX-License-Identifier: MIT
// Builds the map of one disk from cluster ids that come in any order. Pages are given away as soon as they are complete;
// a page under way is in memory while few are, and in scratch when many are, so memory does not grow with the disk
// beyond one bit for each page (a 128th of a bit for each cluster).

import { mapLevels, pageCount, pageEntries, ZERO_ID } from '../../formats/vmar/map.js';
import { isAllZero } from '../base/bytes.js';
import { BugError, UsageError } from '../base/errors.js';
import { MapNode, nodeRecordBytes } from './map-node.js';
import type { Scratch } from './scratch.js';

/** Pages under way that are kept in memory: 17 MiB at a fan-out of 128. */
const OPEN_PAGES = 4096;

export interface MapBuilderOptions {
  readonly clusters: number;
  readonly fanout: number;
  readonly scratch: Scratch;
  /** Where the disk's pages under way may be spilled in the scratch file, from this offset on. */
  readonly scratchOffsetBytes: number;
  /** Takes a complete page that is not all zero; gives its id. The bytes are the callee's. */
  readonly onPage: (level: number, index: number, page: Uint8Array) => Promise<Uint8Array>;
  /** For messages. */
  readonly disk: string;
}

/** The id of a whole subtree: entry `index` of level `level` − 1, where level 1 holds clusters. */
export type SubtreeIds = (level: number, index: number) => Promise<Uint8Array>;

export class MapBuilder {
  readonly levels: number;
  readonly #options: MapBuilderOptions;
  readonly #open = new Map<string, MapNode>();
  /** Level-1 pages that lie in scratch, a bit each. */
  readonly #spilled: Uint8Array;
  #complete: MapNode[] = [];
  #last: MapNode | undefined;
  #root: Uint8Array | undefined;

  constructor(options: MapBuilderOptions) {
    this.#options = options;
    this.levels = mapLevels(options.clusters, options.fanout);
    this.#spilled = new Uint8Array(
      Math.ceil((this.levels === 0 ? 0 : pageCount(1, options.clusters, options.fanout)) / 8),
    );
    if (options.clusters === 0) this.#root = ZERO_ID;
  }

  /**
   * Sets one cluster's id (`undefined` for a zero cluster). Call `drain` before long.
   * @throws UsageError if the cluster is not the disk's or was set before.
   */
  set(cluster: number, id: Uint8Array | undefined): void {
    const { clusters, fanout } = this.#options;
    if (!(cluster >= 0 && cluster < clusters)) throw this.#outside(cluster);
    const index = Math.floor(cluster / fanout);
    const last = this.#last;
    const node = last !== undefined && last.index === index ? last : this.#node(1, index);
    this.#last = node;
    this.#fill(node, cluster - index * fanout, id, cluster);
  }

  #fill(node: MapNode, entry: number, id: Uint8Array | undefined, cluster: number): void {
    if (!node.fill(entry, id)) throw this.#twice(cluster);
    if (!node.isComplete) return;
    this.#complete.push(node);
    this.#open.delete(key(node.level, node.index));
    if (this.#last === node) this.#last = undefined;
  }

  /** Sets a range of clusters; whole subtrees at a stroke. `ids` undefined stands for zeros. */
  async setRange(first: number, count: number, ids: SubtreeIds | undefined): Promise<void> {
    const { clusters, fanout } = this.#options;
    const end = first + count;
    if (!(first >= 0 && count >= 0 && end <= clusters)) throw this.#outside(end - 1);
    for (let at = first; at < end; ) {
      let span = 1;
      let level = 1;
      // The largest subtree that starts here and ends within the range (or at the disk's end, as the range does).
      while (level < this.levels && at % (span * fanout) === 0 && (at + span * fanout <= end || end === clusters)) {
        span *= fanout;
        level++;
      }
      await this.#setSubtree(level, at / span, at, ids);
      at = Math.min(end, at + span);
    }
    await this.drain();
  }

  async #setSubtree(level: number, index: number, cluster: number, ids: SubtreeIds | undefined): Promise<void> {
    const { fanout } = this.#options;
    const node = this.#node(level, Math.floor(index / fanout));
    const entry = index % fanout;
    if (node.isStarted(entry)) throw this.#twice(cluster);
    const id = ids === undefined ? undefined : await ids(level, index);
    this.#fill(node, entry, id, cluster);
    await this.drain();
  }

  #node(level: number, index: number): MapNode {
    const name = key(level, index);
    const open = this.#open.get(name);
    if (open !== undefined) return open;
    const node = this.#unspill(level, index) ?? this.#newNode(level, index);
    this.#open.set(name, node);
    if (this.#open.size > OPEN_PAGES) this.#spillOldest();
    return node;
  }

  #newNode(level: number, index: number): MapNode {
    const { clusters, fanout } = this.#options;
    if (level < this.levels) {
      const above = this.#node(level + 1, Math.floor(index / fanout));
      if (above.isFilled(index % fanout)) throw this.#twice(index * fanout ** level);
      above.start(index % fanout);
    }
    return new MapNode(level, index, pageEntries(level, index, clusters, fanout), fanout);
  }

  #spillOldest(): void {
    for (const [name, node] of this.#open) {
      if (node.level !== 1 || node === this.#last) continue;
      this.#options.scratch.write(this.#scratchOffset(node.index), node.record);
      this.#spilled[node.index >> 3]! |= 1 << (node.index & 7);
      this.#open.delete(name);
      // In batches, so that the walk over upper pages at the map's front is not paid for each.
      if (this.#open.size <= OPEN_PAGES - OPEN_PAGES / 8) return;
    }
  }

  #unspill(level: number, index: number): MapNode | undefined {
    if (level !== 1 || (this.#spilled[index >> 3]! & (1 << (index & 7))) === 0) return undefined;
    const { clusters, fanout, scratch } = this.#options;
    const record = Buffer.alloc(nodeRecordBytes(fanout));
    scratch.read(this.#scratchOffset(index), record);
    this.#spilled[index >> 3]! &= ~(1 << (index & 7));
    return new MapNode(1, index, pageEntries(1, index, clusters, fanout), fanout, record);
  }

  #scratchOffset(index: number): number {
    return this.#options.scratchOffsetBytes + index * nodeRecordBytes(this.#options.fanout);
  }

  /** Gives away the pages that are complete. Calls must not overlap with any other. */
  async drain(): Promise<void> {
    while (this.#complete.length > 0) {
      const pages = this.#complete;
      this.#complete = [];
      for (const node of pages) await this.#close(node);
    }
  }

  async #close(node: MapNode): Promise<void> {
    const zero = isAllZero(node.ids);
    const id = zero ? undefined : await this.#options.onPage(node.level, node.index, node.ids);
    if (node.level === this.levels) {
      this.#root = id ?? ZERO_ID;
      return;
    }
    const { fanout } = this.#options;
    const above = this.#node(node.level + 1, Math.floor(node.index / fanout));
    this.#fill(above, node.index % fanout, id, node.index * fanout ** node.level);
  }

  /** The root's id. @throws UsageError if a cluster was never set. */
  async finish(): Promise<Uint8Array> {
    await this.drain();
    if (this.#root === undefined) throw this.#incomplete();
    if (this.#open.size > 0) throw new BugError('map pages left open under a complete root');
    return this.#root;
  }

  #incomplete(): UsageError {
    const { disk } = this.#options;
    return new UsageError('clusters-missing', `disk ${disk} is incomplete: not every cluster was dumped`, {
      object: disk,
    });
  }

  #twice(cluster: number): UsageError {
    const { disk } = this.#options;
    return new UsageError('cluster-twice', `cluster ${cluster} of disk ${disk} was dumped twice`, { object: disk });
  }

  #outside(cluster: number): UsageError {
    const { disk, clusters } = this.#options;
    return new UsageError('cluster-outside', `cluster ${cluster} is past the end of disk ${disk}`, {
      object: disk,
      expected: `below ${clusters}`,
    });
  }
}

function key(level: number, index: number): string {
  return `${level}:${index}`;
}
