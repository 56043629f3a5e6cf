// SPDX-License-Identifier: MIT
// A sink that writes a .vma file, as `vma create` does: for qmrestore and everyone else who reads those.

import { isVmstate, type VmaDevice } from '../../formats/vma/header.js';
import { CLUSTER_BYTES, VMSTATE_NAME } from '../../formats/vma/limits.js';
import { VmaWriter } from '../../formats/vma/writer.js';
import { BufferPool } from '../../src/base/buffer-pool.js';
import { divideUp } from '../../src/base/checked.js';
import { BugError, FailedError, UsageError } from '../../src/base/errors.js';
import { InTurn } from '../../src/base/in-turn.js';
import { StepChain } from '../../src/base/step-chain.js';
import {
  type BackupDescription,
  type DiskCounts,
  type DumpResult,
  type DumpSink,
  SAME_AS_PARENT,
  type SinkOutput,
  ZERO,
} from '../../src/plugin-api.js';

const SLOT_BYTES = 1 << 20;
const SLOTS = 16;
/** Clusters of zeros that are written at once; a range of more is written before the next is taken. */
const MANY_CLUSTERS = 65536;

export interface VmaSinkOptions {
  readonly output: SinkOutput;
  /** 16 bytes: a file that is imported is known by it. */
  readonly uuid: Uint8Array;
  /**
   * The clusters of each disk lie in the file in their order; they may come ahead of their turn by no more than the sink
   * has slots. Else they lie there as they come, but for those of a memory state.
   */
  readonly isOrdered: boolean;
}

interface Disk {
  readonly device: VmaDevice;
  readonly counts: { readBytes: number; zeroBytes: number };
  /** Where the clusters lie in order. */
  readonly inTurn: InTurn | undefined;
}

/** The lengths of disks, and of a memory state, must be known from the beginning. */
export class VmaSink implements DumpSink {
  readonly clusterSizeBytes = CLUSTER_BYTES;
  readonly slotBytes = SLOT_BYTES;
  readonly #output: SinkOutput;
  readonly #uuid: Uint8Array;
  readonly #isOrdered: boolean;
  readonly #pool = new BufferPool(SLOTS, SLOT_BYTES);
  #writer: VmaWriter | undefined;
  #disks: Disk[] = [];
  #isEnded = false;
  /** One write after another. */
  readonly #chain = new StepChain((error) => this.#pool.fail(error));

  constructor({ output, uuid, isOrdered }: VmaSinkOptions) {
    this.#output = output;
    this.#isOrdered = isOrdered;
    this.#uuid = uuid;
  }

  async begin(backup: BackupDescription): Promise<void> {
    const devices = backup.disks.map(({ name, kind, sizeBytes }, at) => {
      const deviceName = kind === 'vmstate' ? VMSTATE_NAME : name;
      if (sizeBytes !== undefined && sizeBytes > 0) return { id: at + 1, name: deviceName, sizeBytes };
      const problem = sizeBytes === 0 ? 'is empty' : 'is a stream of unknown length';
      throw new UsageError('vma-disk', `disk ${name} ${problem}: a .vma archive holds none of those`, { object: name });
    });
    const { configs, timeSeconds } = backup;
    const writer = new VmaWriter({ uuid: this.#uuid, timeSeconds, configs, devices });
    this.#writer = writer;
    this.#disks = devices.map((device) => ({
      device,
      counts: { readBytes: 0, zeroBytes: 0 },
      inTurn: this.#isOrdered || isVmstate(device) ? new InTurn() : undefined,
    }));
    this.#chain.add(async () => await this.#output.write(writer.header()));
    await this.#chain.settled();
  }

  hasParent(): boolean {
    return false;
  }

  lease(): Promise<Uint8Array> {
    return this.#pool.lease();
  }

  release(slot: Uint8Array): void {
    this.#pool.release(slot);
  }

  async dump(disk: number, cluster: number, bytes: Uint8Array | typeof ZERO): Promise<void> {
    if (bytes === ZERO) {
      await this.dumpRange(disk, cluster, 1, ZERO);
      return;
    }
    try {
      this.#chain.check();
      const kept = this.#pool.isLeased(bytes) ? bytes : Uint8Array.from(bytes);
      const { counts } = this.#disk(disk);
      counts.readBytes += bytes.byteLength;
      const count = divideUp(bytes.byteLength, CLUSTER_BYTES);
      this.#inTurn(disk, cluster, count, async () => {
        try {
          for (let i = 0; i < count; i++) {
            const piece = kept.subarray(i * CLUSTER_BYTES, (i + 1) * CLUSTER_BYTES);
            const extents = this.#cluster(disk, cluster + i, piece);
            // Most clusters fill no extent: for those nothing is awaited.
            if (extents.length > 0) await this.#write(extents);
          }
        } finally {
          this.#pool.release(kept);
        }
      });
    } catch (error) {
      this.#pool.release(bytes);
      throw error;
    }
  }

  async dumpRange(
    disk: number,
    firstCluster: number,
    count: number,
    content: typeof ZERO | typeof SAME_AS_PARENT,
  ): Promise<void> {
    this.#chain.check();
    if (content === SAME_AS_PARENT) throw new UsageError('no-parent', 'a .vma archive has no parent');
    const { device, counts } = this.#disk(disk);
    const end = Math.min(device.sizeBytes, (firstCluster + count) * CLUSTER_BYTES);
    counts.zeroBytes += end - firstCluster * CLUSTER_BYTES;
    this.#inTurn(disk, firstCluster, count, async () => {
      if (isVmstate(device)) {
        for (let i = 0; i < count; i++) await this.#write(this.#cluster(disk, firstCluster + i, 'zero'));
        return;
      }
      for (let done = 0; done < count; done += MANY_CLUSTERS) {
        await this.#write(this.#zeros(disk, firstCluster + done, Math.min(MANY_CLUSTERS, count - done)));
      }
    });
    if (count > MANY_CLUSTERS) await this.#chain.settled();
  }

  async endStream(): Promise<void> {
    throw new BugError('a .vma archive has no streams of unknown length');
  }

  async finish(): Promise<DumpResult> {
    this.#chain.add(async () => {
      await this.#write(this.#writer?.end() ?? []);
      await this.#output.finish();
    });
    await this.#chain.settled();
    this.#isEnded = true;
    return { backup: this.#output.name, disks: this.#disks.map(countsOf) };
  }

  async abort(): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#chain.fail(new FailedError('aborted', 'the archive was given up'));
    await this.#chain.ended();
    await this.#output.abort();
  }

  #inTurn(disk: number, first: number, count: number, step: () => Promise<void>): void {
    const { inTurn } = this.#disk(disk);
    if (inTurn === undefined) this.#chain.add(step);
    else inTurn.add(first, count, () => this.#chain.add(step));
  }

  #cluster(disk: number, cluster: number, bytes: Uint8Array | 'zero'): Uint8Array[] {
    if (this.#chain.failure !== undefined) return [];
    return this.#writer?.cluster(this.#disk(disk).device.id, cluster, bytes) ?? [];
  }

  #zeros(disk: number, firstCluster: number, count: number): Uint8Array[] {
    if (this.#chain.failure !== undefined) return [];
    return this.#writer?.zeros(this.#disk(disk).device.id, firstCluster, count) ?? [];
  }

  async #write(extents: readonly Uint8Array[]): Promise<void> {
    for (const extent of extents) {
      await this.#output.write(extent);
      this.#writer?.recycle(extent);
    }
  }

  #disk(index: number): Disk {
    const disk = this.#disks[index];
    if (disk === undefined) throw new UsageError('no-such-disk', `the backup has no disk number ${index}`);
    return disk;
  }
}

/** All that is not zero is new to a file that stands alone. */
function countsOf({ device, counts }: Disk): DiskCounts {
  const { name, sizeBytes } = device;
  const fresh = sizeBytes - counts.zeroBytes;
  return { name, sizeBytes, ...counts, unchangedBytes: 0, newBytes: fresh, storedBytes: fresh };
}
