// SPDX-License-Identifier: MIT
// Clusters of 64 KiB, those of a .vma file above all, into a sink.

import { CLUSTER_BYTES } from '../../../formats/vma/limits.js';
import { BugError } from '../../base/errors.js';
import type { DumpSink } from '../../plugin-api.js';
import { ClusterGather } from './cluster-gather.js';
import { ClusterRun } from './cluster-run.js';
import type { VmaSummary, VmaTarget } from './vma-input.js';

/** Devices whose clusters come by turns may each hold a slot; more than this would leave none. */
const MOST_OPEN = 6;

/** What comes in clusters of 64 KiB. */
export interface SmallDevice {
  readonly id: number;
  /** undefined for a stream. */
  readonly sizeBytes: number | undefined;
}

export class SmallToSink implements VmaTarget {
  /** By device id. */
  readonly #runs = new Map<number, ClusterRun>();
  /** Those that hold a slot, the one used last at the end. */
  readonly #open = new Set<ClusterRun>();
  readonly #gather: ClusterGather | undefined;

  /**
   * @param devices in the order of the disks that the sink was or will be begun with
   * @param scratchDirectory for what is gathered where the sink's clusters are larger than the file's
   */
  constructor(devices: readonly SmallDevice[], sink: DumpSink, scratchDirectory: string) {
    const perLarge = sink.clusterSizeBytes / CLUSTER_BYTES;
    if (!Number.isInteger(perLarge)) throw new BugError('clusters of a sink are no multiple of 64 KiB');
    const shape = { smallBytes: CLUSTER_BYTES, perLarge, directory: scratchDirectory };
    const gather = perLarge === 1 ? undefined : new ClusterGather(shape);
    this.#gather = gather;
    for (const [disk, { id, sizeBytes }] of devices.entries()) {
      this.#runs.set(id, new ClusterRun({ sink, disk, sizeBytes, gather }));
    }
  }

  async data(device: number, cluster: number, mask: number, blocks: Uint8Array): Promise<void> {
    const run = this.#run(device);
    await this.#makeRoom(run);
    await run.data(cluster, mask, blocks);
    this.#note(run);
  }

  async zeros(device: number, first: number, count: number): Promise<void> {
    const run = this.#run(device);
    await this.#makeRoom(run);
    await run.zeros(first, count);
    this.#note(run);
  }

  /** All that came is the sink's. */
  async flush(): Promise<void> {
    for (const run of this.#runs.values()) await run.flush();
  }

  /** The same, and streams are ended. */
  async finish(devices: VmaSummary['devices']): Promise<void> {
    for (const device of devices) {
      const run = this.#run(device.id);
      if (run.isStream) await run.endStream(device.clusters, device.sizeBytes);
      else await run.flush();
    }
  }

  /** Gives back what it holds; to be called in any case. */
  close(): void {
    for (const run of this.#runs.values()) run.abandon();
    this.#gather?.close();
  }

  #run(device: number): ClusterRun {
    const run = this.#runs.get(device);
    if (run === undefined) throw new BugError(`a cluster of device ${device}, which the header does not name`);
    return run;
  }

  async #makeRoom(next: ClusterRun): Promise<void> {
    if (this.#open.size < MOST_OPEN || this.#open.has(next)) return;
    for (const run of this.#open) {
      if (run.isStream) continue;
      await run.flush();
      this.#open.delete(run);
      return;
    }
  }

  #note(run: ClusterRun): void {
    this.#open.delete(run);
    if (run.isOpen) this.#open.add(run);
  }
}
