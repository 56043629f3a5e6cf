// SPDX-License-Identifier: MIT
// Clusters of one device of a .vma file on their way into a sink. Those that come in sequence share a slot, short stretches
// of zeros between them included; longer ones become ranges, whose cost does not grow with their length.

import { CLUSTER_BYTES } from '../../../formats/vma/limits.js';
import { divideUp } from '../../base/checked.js';
import { copyBytes } from '../../base/syscalls.js';
import { type DumpSink, ZERO } from '../../plugin-api.js';
import { fillCluster, presentBytes, streamBytes, ZEROS } from './cluster-content.js';
import type { ClusterGather, DiskGather } from './cluster-gather.js';

/** Fewer zero clusters than this between others are hashed with them. */
const SKIPPED_ZEROS = 4;

export interface RunTarget {
  readonly sink: DumpSink;
  /** Place in the backup's disks. */
  readonly disk: number;
  /** Of a stream: undefined. */
  readonly sizeBytes: number | undefined;
  /** Where the sink's clusters are larger than those of the file. */
  readonly gather: ClusterGather | undefined;
}

interface Run {
  readonly slot: Uint8Array;
  readonly first: number;
  /** Clusters in the slot. */
  count: number;
  /** Zero clusters that follow, not yet in it. */
  zeros: number;
}

export class ClusterRun {
  readonly #target: RunTarget;
  readonly #clusters: number;
  readonly #perLarge: number;
  readonly #perSlot: number;
  readonly #gather: DiskGather | undefined;
  #run: Run | undefined;
  #zero: { first: number; count: number } | undefined;
  /** How much of its last cluster a stream has. */
  #lastBytes = 0;

  constructor(target: RunTarget) {
    const { sink, sizeBytes, gather } = target;
    this.#target = target;
    this.#clusters = sizeBytes === undefined ? Number.POSITIVE_INFINITY : divideUp(sizeBytes, CLUSTER_BYTES);
    this.#perLarge = sink.clusterSizeBytes / CLUSTER_BYTES;
    this.#perSlot = sink.slotBytes / CLUSTER_BYTES;
    this.#gather = gather?.disk({
      smallClusters: this.#clusters,
      emit: async (large, bytes) => await this.#dumpGathered(large, bytes),
    });
  }

  get isStream(): boolean {
    return this.#target.sizeBytes === undefined;
  }

  /** Whether it holds a slot. */
  get isOpen(): boolean {
    return this.#run !== undefined;
  }

  /** Takes a cluster of which the blocks of `mask` are there, end to end in `blocks`. */
  async data(cluster: number, mask: number, blocks: Uint8Array): Promise<void> {
    await this.#flushZeros();
    const run = await this.#runFor(cluster);
    fillCluster(run.slot.subarray(run.count * CLUSTER_BYTES, (run.count + 1) * CLUSTER_BYTES), mask, blocks);
    run.count++;
    this.#lastBytes = presentBytes(mask);
    // The last piece of a stream is kept back until its length is known.
    if (run.count === this.#perSlot && !this.isStream) await this.flush();
  }

  async zeros(first: number, count: number): Promise<void> {
    if (this.isStream) {
      for (let i = 0; i < count; i++) await this.data(first + i, 0, ZEROS);
      return;
    }
    const run = this.#run;
    if (run !== undefined && first === run.first + run.count + run.zeros) {
      const zeros = run.zeros + count;
      if (zeros < SKIPPED_ZEROS && run.count + zeros < this.#perSlot) {
        run.zeros = zeros;
        return;
      }
    }
    await this.#flushRun();
    const zero = this.#zero;
    if (zero !== undefined && zero.first + zero.count === first) zero.count += count;
    else {
      await this.#flushZeros();
      this.#zero = { first, count };
    }
  }

  /** Hands all to the sink. */
  async flush(): Promise<void> {
    await this.#flushRun();
    await this.#flushZeros();
  }

  /** Ends a stream of so many clusters, of which the header claims a length. */
  async endStream(clusters: number, claimedBytes: number): Promise<void> {
    const { sink, disk } = this.#target;
    const run = this.#run;
    const last = run?.slot.subarray((run.count - 1) * CLUSTER_BYTES, run.count * CLUSTER_BYTES);
    const sizeBytes = streamBytes({ clusters, claimedBytes, last, lastBytes: this.#lastBytes });
    if (run !== undefined) {
      this.#run = undefined;
      await this.#dump(run.first, run.slot, sizeBytes - run.first * CLUSTER_BYTES);
    }
    await sink.endStream(disk, sizeBytes);
  }

  /** The run that the cluster is the next of, with room for it. */
  async #runFor(cluster: number): Promise<Run> {
    const run = this.#run;
    if (run !== undefined && cluster === run.first + run.count + run.zeros && run.count + run.zeros < this.#perSlot) {
      for (; run.zeros > 0; run.zeros--) {
        fillCluster(run.slot.subarray(run.count * CLUSTER_BYTES, (run.count + 1) * CLUSTER_BYTES), 0, ZEROS);
        run.count++;
      }
      return run;
    }
    await this.flush();
    const fresh = { slot: await this.#target.sink.lease(), first: cluster, count: 0, zeros: 0 };
    this.#run = fresh;
    return fresh;
  }

  async #flushRun(): Promise<void> {
    const run = this.#run;
    if (run === undefined) return;
    this.#run = undefined;
    if (run.zeros > 0) this.#zero = { first: run.first + run.count, count: run.zeros };
    let whole = 0;
    try {
      whole = await this.#gatherRest(run);
    } finally {
      if (whole === 0) this.#target.sink.release(run.slot);
    }
    if (whole > 0) await this.#dump(run.first, run.slot, this.#end(run.first + whole) - run.first * CLUSTER_BYTES);
  }

  /** Gives back what it holds, for nobody wants it any more. */
  abandon(): void {
    if (this.#run !== undefined) this.#target.sink.release(this.#run.slot);
    this.#run = undefined;
  }

  /** Gives what makes no whole clusters of the sink to the gather; tells how many from the front on do. */
  async #gatherRest({ slot, first, count }: Run): Promise<number> {
    const gather = this.#gather;
    if (gather === undefined) return count;
    const isWhole = first % this.#perLarge === 0;
    const end = first + count;
    const wholeEnd = end === this.#clusters ? end : end - (end % this.#perLarge);
    const whole = isWhole ? Math.max(0, wholeEnd - first) : 0;
    for (let i = whole; i < count; i++) {
      await gather.add(first + i, slot.subarray(i * CLUSTER_BYTES, (i + 1) * CLUSTER_BYTES));
    }
    return whole;
  }

  async #flushZeros(): Promise<void> {
    const zero = this.#zero;
    if (zero === undefined) return;
    this.#zero = undefined;
    const { sink, disk } = this.#target;
    const per = this.#perLarge;
    const end = zero.first + zero.count;
    const from = Math.min(end, divideUp(zero.first, per) * per);
    const to = end === this.#clusters ? end : Math.max(from, end - (end % per));
    for (let small = zero.first; small < from; small++) await this.#gather?.add(small, undefined);
    if (to > from) await sink.dumpRange(disk, from / per, divideUp(to - from, per), ZERO);
    for (let small = to; small < end; small++) await this.#gather?.add(small, undefined);
  }

  async #dumpGathered(large: number, bytes: Uint8Array): Promise<void> {
    const first = large * this.#perLarge;
    const lengthBytes = this.#end(first + this.#perLarge) - first * CLUSTER_BYTES;
    const slot = await this.#target.sink.lease();
    copyBytes(slot, bytes.subarray(0, lengthBytes));
    await this.#dump(first, slot, lengthBytes);
  }

  async #dump(first: number, slot: Uint8Array, lengthBytes: number): Promise<void> {
    const { sink, disk } = this.#target;
    await sink.dump(disk, first / this.#perLarge, slot.subarray(0, lengthBytes));
  }

  /** Where a cluster would begin, but never past the end of the disk. */
  #end(cluster: number): number {
    return Math.min(cluster * CLUSTER_BYTES, this.#target.sizeBytes ?? Number.POSITIVE_INFINITY);
  }
}
