// SPDX-License-Identifier: MIT
// Every cluster of every device, once: what the reader checks and the writer keeps.

import { divideUp } from '../../src/base/checked.js';
import { ClusterSet, type PageBudget } from './cluster-set.js';
import { isVmstate, type VmaDevice, type VmaHeader } from './header.js';
import { BLOCK_BYTES, BLOCKS_PER_CLUSTER, CLUSTER_BYTES, MAX_SEEN_BYTES } from './limits.js';

const ALL_BLOCKS = 0xffff;

/** Why a cluster cannot be. */
export type ClusterProblem = 'unknown-device' | 'past-end' | 'twice' | 'out-of-order' | 'over-budget';

export interface MissingClusters {
  readonly device: VmaDevice;
  readonly first: number;
  readonly count: number;
  readonly total: number;
}

export class Coverage {
  readonly #devices = new Map<number, Seen>();

  constructor(header: VmaHeader, budget: PageBudget = { leftBytes: MAX_SEEN_BYTES }) {
    for (const device of header.devices) {
      this.#devices.set(device.id, isVmstate(device) ? new SeenStream(device) : new SeenDisk(device, budget));
    }
  }

  device(id: number): VmaDevice | undefined {
    return this.#devices.get(id)?.device;
  }

  /** How many clusters of the device were seen. */
  seen(id: number): number {
    return this.#devices.get(id)?.size ?? 0;
  }

  /** Counts a cluster as seen, unless it cannot be. */
  add(id: number, cluster: number): ClusterProblem | undefined {
    const seen = this.#devices.get(id);
    return seen === undefined ? 'unknown-device' : seen.add(cluster);
  }

  /** The blocks of a cluster that lie in the device, at least in part, as a mask. */
  blocksInside(id: number, cluster: number): number {
    const device = this.device(id);
    if (device === undefined) return 0;
    if (isVmstate(device)) return ALL_BLOCKS;
    const blocks = divideUp(Math.max(0, device.sizeBytes - cluster * CLUSTER_BYTES), BLOCK_BYTES);
    return blocks >= BLOCKS_PER_CLUSTER ? ALL_BLOCKS : (1 << blocks) - 1;
  }

  missing(): MissingClusters[] {
    return [...this.#devices.values()].flatMap((seen) => seen.missing() ?? []);
  }
}

interface Seen {
  readonly device: VmaDevice;
  readonly size: number;
  add(cluster: number): ClusterProblem | undefined;
  missing(): MissingClusters | undefined;
}

class SeenDisk implements Seen {
  readonly #clusters: ClusterSet;

  constructor(
    readonly device: VmaDevice,
    budget: PageBudget,
  ) {
    this.#clusters = new ClusterSet(divideUp(device.sizeBytes, CLUSTER_BYTES), budget);
  }

  get size(): number {
    return this.#clusters.size;
  }

  add(cluster: number): ClusterProblem | undefined {
    if (cluster >= this.#clusters.clusters) return 'past-end';
    const added = this.#clusters.add(cluster);
    return added === 'new' ? undefined : added;
  }

  missing(): MissingClusters | undefined {
    const first = this.#clusters.firstMissing();
    const total = this.#clusters.clusters;
    return first === undefined ? undefined : { device: this.device, first, count: total - this.size, total };
  }
}

/** Its clusters come in order from 0, as many as there are. */
class SeenStream implements Seen {
  size = 0;

  constructor(readonly device: VmaDevice) {}

  add(cluster: number): ClusterProblem | undefined {
    if (cluster !== this.size) return 'out-of-order';
    this.size++;
    return undefined;
  }

  missing(): undefined {
    return undefined;
  }
}
