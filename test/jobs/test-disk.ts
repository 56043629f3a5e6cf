// SPDX-License-Identifier: MIT
// A disk for tests of jobs: counts its reads, takes its time, fails where it is told to.

import { setImmediate as turn } from 'node:timers/promises';
import { FailedError } from '#vmar/src/base/errors.js';
import type { BlockExtent } from '#vmar/src/block/device.js';
import type { MeasuredDevice } from '#vmar/src/block/measured-device.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import type { Random } from '../base/random.js';

export class TestDisk extends MemoryDevice implements MeasuredDevice {
  reads = 0;
  readsUnderWay = 0;
  mostReadsUnderWay = 0;
  readBytes = 0;
  statusCalls = 0;
  /** Reads of a range that holds this offset fail. */
  failAt: number | undefined;
  /** What `lengthNow` tells. */
  lengthLater: number;
  random: Random | undefined;

  constructor(lengthBytes: number, name = 'test disk') {
    super(lengthBytes, { name });
    this.lengthLater = lengthBytes;
  }

  async lengthNow(): Promise<number> {
    return this.lengthLater;
  }

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    this.reads++;
    this.readBytes += into.byteLength;
    this.mostReadsUnderWay = Math.max(this.mostReadsUnderWay, ++this.readsUnderWay);
    try {
      for (let turns = this.random?.integer(0, 4) ?? 0; turns > 0; turns--) await turn();
      const { failAt } = this;
      if (failAt !== undefined && failAt >= offsetBytes && failAt < offsetBytes + into.byteLength) {
        throw new FailedError('read-failed', 'EIO', { object: this.name, offsetBytes: failAt });
      }
      await super.read(offsetBytes, into);
    } finally {
      this.readsUnderWay--;
    }
  }

  override async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    this.statusCalls++;
    const extents = await super.blockStatus(offsetBytes, lengthBytes);
    if (!this.random) return extents;
    // Any number of them, from one on, is a good answer.
    return extents.slice(0, this.random.integer(1, extents.length));
  }
}

/** A disk with stretches of data and holes between, of any length and alignment. */
export async function randomDisk(random: Random, lengthBytes: number, name?: string): Promise<TestDisk> {
  const disk = new TestDisk(lengthBytes, name);
  for (let at = 0; at < lengthBytes; ) {
    const length = Math.min(lengthBytes - at, random.integer(1, random.oneIn(3) ? 300_000 : 20_000));
    if (random.oneIn(2)) await disk.write(at, random.bytes(length));
    at += length;
  }
  disk.random = random;
  return disk;
}
