// SPDX-License-Identifier: MIT
// What is copied in each mode, and what is left as the target has it.

import { describe, expect, it } from 'vitest';
import { REAL_CLOCK } from '#vmar/src/base/clock.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import type { BlockDevice } from '#vmar/src/block/device.js';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { AllocTrack } from '#vmar/src/block/filters/alloc-track.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { DiskBackupJob } from '#vmar/src/jobs/backup-disk-job.js';
import { BackupJob, type BackupJobDisk } from '#vmar/src/jobs/backup-job.js';
import type { BackupSync } from '#vmar/src/jobs/backup-sync.js';
import { DeviceTarget } from '#vmar/src/jobs/backup-to-device.js';
import { type Random, seededRandom } from '../base/random.js';
import { readAll } from '../block/device-contract.js';
import { CheckingSink, type CheckingSinkOptions, dumpedContent } from './checking-sink.js';
import { fillRandomly, Guest, TornDisk } from './guest.js';

const CLUSTER = 65_536;

function toSink(disk: BackupJobDisk, options: Partial<CheckingSinkOptions>) {
  const sink = new CheckingSink({ clusterSizeBytes: CLUSTER, slotBytes: 4 * CLUSTER, slots: 4, ...options });
  const job = new BackupJob({
    disks: [disk],
    sink,
    description: {
      ...{ namespace: '', guestId: '100', timeSeconds: 1, source: 'test', consistency: 'crash', configs: [] },
      disks: [{ name: 'd', kind: 'disk', sizeBytes: disk.device.lengthBytes }],
    },
    speedBytesPerSecond: 0,
    clock: REAL_CLOCK,
  });
  return { sink, job };
}

function toDevice(source: BlockDevice, target: BlockDevice, sync: BackupSync): DiskBackupJob {
  const options = { clusterSizeBytes: CLUSTER, targetIsZero: false };
  return new DiskBackupJob({
    clock: REAL_CLOCK,
    source,
    target: new DeviceTarget(target, source.lengthBytes, options),
    sync,
    ...(source instanceof BlockNode ? { live: { policy: 'break-guest-write' as const } } : {}),
  });
}

/** A disk, its content of yesterday, and a bitmap of what changed since. */
async function changedDisk(random: Random, granularityBytes: number) {
  const disk = new TornDisk(random.integer(1, 4_000_000), random);
  const before = await fillRandomly(disk, random);
  const bitmap = new DirtyBitmap(disk.lengthBytes, granularityBytes);
  for (let changes = random.integer(0, 12); changes > 0; changes--) {
    const from = random.integer(0, disk.lengthBytes - 1);
    const bytes = random.bytes(Math.min(random.integer(1, 30_000), disk.lengthBytes - from));
    await disk.write(from, bytes);
    bitmap.set(from, bytes.byteLength);
  }
  disk.readBytes = 0;
  return { disk, before, bitmap };
}

function cleanRunsOfClusters(bitmap: DirtyBitmap): number {
  let runs = 0;
  let wasClean = false;
  for (let at = 0; at < bitmap.lengthBytes; at += CLUSTER) {
    const isClean = bitmap.nextDirty(at, Math.min(at + CLUSTER, bitmap.lengthBytes)) === undefined;
    if (isClean && !wasClean) runs++;
    wasClean = isClean;
  }
  return runs;
}

describe('sync=incremental', () => {
  it.each(Array.from({ length: 12 }, (_, seed) => seed))('tells a sink what is as before, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const { disk, before, bitmap } = await changedDisk(random, [512, 4096, 65_536, 262_144][seed % 4]!);
    const named = bitmap.snapshot();
    const content = await readAll(disk);
    disk.readBytes = 0;
    const { sink, job } = toSink(
      { device: disk, sync: { mode: 'incremental', bitmap } },
      { parents: [before], random },
    );
    await job.run();
    expect(sink.breaches).toEqual([]);
    expect(dumpedContent(sink.disks[0]!, CLUSTER, before).equals(content)).toBe(true);
    expect(sink.disks[0]!.keptRanges.length).toBe(cleanRunsOfClusters(named));
    expect(bitmap.isClean).toBe(true);
    const { totalBytes, doneBytes, unchangedBytes } = job.progress();
    expect([doneBytes, totalBytes - unchangedBytes >= disk.readBytes]).toEqual([totalBytes, true]);
  });

  it.each(Array.from({ length: 8 }, (_, seed) => seed))('live, shows the start, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const { disk, before, bitmap } = await changedDisk(random, 4096);
    const content = await readAll(disk);
    const node = new BlockNode(disk);
    const guest = new Guest(node, content, random);
    const target = new MemoryDevice(disk.lengthBytes);
    await target.write(0, before);
    const job = toDevice(node, target, { mode: 'incremental', bitmap });
    job.start();
    await job.attach();
    const working = guest.work(5);
    await job.finished;
    guest.stop();
    await working;
    expect((await readAll(target)).equals(content)).toBe(true);
  });

  it('reads all where there is no parent to be the same as', async () => {
    const random = seededRandom(3);
    const { disk, bitmap } = await changedDisk(random, 4096);
    const content = await readAll(disk);
    const { sink, job } = toSink({ device: disk, sync: { mode: 'incremental', bitmap } }, {});
    await job.run();
    expect(sink.breaches).toEqual([]);
    expect(dumpedContent(sink.disks[0]!, CLUSTER).equals(content)).toBe(true);
  });

  it('gives the bitmap back what it named when it fails, and keeps it where it is told to', async () => {
    const random = seededRandom(5);
    const { disk, before, bitmap } = await changedDisk(random, 4096);
    bitmap.set(0, 1);
    const named = bitmap.serialize();
    const failing = toSink(
      { device: disk, sync: { mode: 'incremental', bitmap } },
      { parents: [before], fault: { call: 'finish', after: 0 } },
    );
    const running = failing.job.run();
    await expect(running).rejects.toThrow('finish failed');
    expect(Buffer.from(bitmap.serialize()).equals(named)).toBe(true);
    const keeping = toSink(
      { device: disk, sync: { mode: 'incremental', bitmap, afterwards: 'keep' } },
      { parents: [before] },
    );
    await keeping.job.run();
    expect(Buffer.from(bitmap.serialize()).equals(named)).toBe(true);
    expect(() =>
      toSink({ device: disk, sync: { mode: 'incremental', bitmap: new DirtyBitmap(disk.lengthBytes + 1, 4096) } }, {}),
    ).toThrow(expect.objectContaining({ code: 'bad-bitmap' }));
  });
});

/** A disk of which some is its own and the rest shows through from a backing. */
async function overlaidDisk(random: Random) {
  const backing = new TornDisk(random.integer(1, 4_000_000), random, 'backing');
  const below = await fillRandomly(backing, random);
  const own = new TornDisk(backing.lengthBytes, random);
  const disk = new AllocTrack(new BlockNode(own), { backing, targetIsZero: true });
  for (let changes = random.integer(0, 8); changes > 0; changes--) {
    const from = random.integer(0, disk.lengthBytes - 1);
    await disk.write(from, random.bytes(Math.min(random.integer(1, 100_000), disk.lengthBytes - from)));
  }
  return { disk, backing, below, content: await readAll(disk) };
}

describe('sync=top', () => {
  it.each(Array.from({ length: 10 }, (_, seed) => seed))('copies what is the device’s own, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const { disk, backing, below, content } = await overlaidDisk(random);
    const node = new BlockNode(disk);
    const guest = new Guest(node, content, random);
    const target = new TornDisk(disk.lengthBytes, random);
    await target.write(0, below);
    target.writtenBytes = 0;
    target.zeroedBytes = 0;
    const own = disk.held.dirtyBytes;
    const job = toDevice(node, target, { mode: 'top' });
    job.start();
    await job.attach();
    const working = seed % 2 === 0 ? guest.work(4) : undefined;
    await job.finished;
    guest.stop();
    await working;
    expect((await readAll(target)).equals(content)).toBe(true);
    expect(job.progress().doneBytes).toBe(disk.lengthBytes);
    if (seed % 2 === 0) return;
    // Whole clusters around what is its own, at most one more on either side of each change.
    expect(target.writtenBytes + target.zeroedBytes).toBeLessThanOrEqual(own + 16 * CLUSTER);
    expect(backing.lengthBytes).toBe(disk.lengthBytes);
  });

  it('leaves the rest to the parent of a sink, or reads it where there is none', async () => {
    for (const hasParent of [true, false]) {
      const random = seededRandom(11);
      const { disk, below, content } = await overlaidDisk(random);
      const { sink, job } = toSink({ device: disk, sync: { mode: 'top' } }, hasParent ? { parents: [below] } : {});
      await job.run();
      expect(sink.breaches).toEqual([]);
      expect(dumpedContent(sink.disks[0]!, CLUSTER, below).equals(content)).toBe(true);
      expect(sink.disks[0]!.keptRanges.length > 0).toBe(hasParent);
    }
  });
});

describe('sync=full to a device', () => {
  it('writes zeros unless the target is zero, those found in data too', async () => {
    for (const targetIsZero of [true, false]) {
      const random = seededRandom(1);
      const disk = new MemoryDevice(20 * CLUSTER + 5);
      await disk.write(CLUSTER, Buffer.alloc(3 * CLUSTER));
      await disk.write(2 * CLUSTER, Buffer.alloc(1, 1));
      const target = new TornDisk(20 * CLUSTER + 5, random);
      if (!targetIsZero) await target.write(0, Buffer.alloc(target.lengthBytes, 7));
      target.writtenBytes = 0;
      const job = new DiskBackupJob({
        clock: REAL_CLOCK,
        source: disk,
        target: new DeviceTarget(target, disk.lengthBytes, { clusterSizeBytes: CLUSTER, targetIsZero }),
      });
      job.start();
      await job.finished;
      expect((await readAll(target)).equals(await readAll(disk))).toBe(true);
      expect(target.writtenBytes).toBe(CLUSTER);
      expect(target.zeroedBytes).toBe(targetIsZero ? 0 : 19 * CLUSTER + 5);
    }
  });
});
