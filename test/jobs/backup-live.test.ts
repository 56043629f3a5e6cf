// SPDX-License-Identifier: MIT
// Backups of disks that guests write to meanwhile: each equals its disk as it was at the start, to the byte.

import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { REAL_CLOCK } from '#vmar/src/base/clock.js';
import { InterruptedError } from '#vmar/src/base/errors.js';
import { BlockNode, type FilterDevice } from '#vmar/src/block/block-node.js';
import { claimsOf } from '#vmar/src/block/claims.js';
import { attachTogether, DiskBackupJob, type DiskBackupOptions } from '#vmar/src/jobs/backup-disk-job.js';
import { BackupJob } from '#vmar/src/jobs/backup-job.js';
import { DeviceTarget } from '#vmar/src/jobs/backup-to-device.js';
import { JobTransaction } from '#vmar/src/jobs/transaction.js';
import { type Random, seededRandom } from '../base/random.js';
import { readAll } from '../block/device-contract.js';
import { CheckingSink, dumpedContent } from './checking-sink.js';
import { fillRandomly, Guest, TornDisk } from './guest.js';

const CLUSTER = 65_536;

interface LiveDisk {
  readonly node: WatchedNode;
  readonly disk: TornDisk;
  readonly guest: Guest;
}

/** Notes what the disk holds at the moment when the filter comes in. */
class WatchedNode extends BlockNode {
  start: Buffer = Buffer.alloc(0);

  override insertFilter<F extends FilterDevice>(make: (below: BlockNode) => F | Promise<F>): Promise<F> {
    return super.insertFilter(async (below) => {
      this.start = await readAll(below);
      return await make(below);
    });
  }
}

async function liveDisk(random: Random, lengthBytes: number): Promise<LiveDisk> {
  const disk = new TornDisk(lengthBytes, random);
  const start = await fillRandomly(disk, random);
  const node = new WatchedNode(disk);
  return { node, disk, guest: new Guest(node, start, random) };
}

const LIVE = { policy: 'break-guest-write' } as const;

function sinkBackup(random: Random, disks: readonly LiveDisk[], slots = random.integer(1, 6)) {
  const sink = new CheckingSink({ clusterSizeBytes: CLUSTER, slotBytes: 4 * CLUSTER, slots, random });
  const job = new BackupJob({
    disks: disks.map(({ node }) => ({ device: node, live: LIVE })),
    sink,
    description: {
      ...{ namespace: '', guestId: '100', timeSeconds: 1, source: 'test', consistency: 'crash', configs: [] },
      disks: disks.map(({ node }, at) => ({ name: `scsi${at}`, kind: 'disk', sizeBytes: node.lengthBytes })),
    },
    speedBytesPerSecond: 0,
    clock: REAL_CLOCK,
  });
  return { sink, job };
}

/** The filter is out, no claim is held, the guest saw nothing of it all. */
async function expectLeftAlone({ node, disk, guest }: LiveDisk): Promise<void> {
  expect(node.device === disk).toBe(true);
  expect(claimsOf(node)).toEqual([]);
  expect(guest.failures).toEqual([]);
  expect(guest.content.equals(await readAll(node))).toBe(true);
}

function deviceJob(options: Omit<DiskBackupOptions, 'clock' | 'target'>, target: TornDisk, targetIsZero = false) {
  const { lengthBytes } = options.source;
  return new DiskBackupJob({
    clock: REAL_CLOCK,
    target: new DeviceTarget(target, lengthBytes, { clusterSizeBytes: CLUSTER, targetIsZero }),
    ...options,
  });
}

describe('a live backup to a sink', () => {
  it.each(Array.from({ length: 12 }, (_, seed) => seed))('equals its disk at the start, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const live = await liveDisk(random, random.integer(1, 6_000_000));
    const { sink, job } = sinkBackup(random, [live]);
    const result = job.run();
    const working = live.guest.work(random.integer(1, 8));
    await result;
    live.guest.stop();
    await working;
    expect(sink.breaches).toEqual([]);
    expect(dumpedContent(sink.disks[0]!, CLUSTER).equals(live.node.start)).toBe(true);
    expect(job.progress()).toMatchObject({ totalBytes: live.node.lengthBytes, doneBytes: live.node.lengthBytes });
    await expectLeftAlone(live);
  });

  it('holds through thousands of requests', async () => {
    const random = seededRandom(4711);
    const live = await liveDisk(random, 20_000_003);
    live.guest.longestBytes = 9000;
    const { sink, job } = sinkBackup(random, [live], 6);
    job.pause();
    const result = job.run();
    // Nearly all is copied before the guest's writes: the loop stands still at first.
    const working = live.guest.work(16, 3000);
    while (live.guest.requests < 1500) await turn();
    job.resume();
    await result;
    await working;
    expect(live.guest.requests).toBeGreaterThanOrEqual(3000);
    expect(sink.breaches).toEqual([]);
    expect(dumpedContent(sink.disks[0]!, CLUSTER).equals(live.node.start)).toBe(true);
    await expectLeftAlone(live);
  });

  it('shows all disks at one moment, with the guest at work from before', async () => {
    for (let seed = 100; seed < 104; seed++) {
      const random = seededRandom(seed);
      const disks = [
        await liveDisk(random, 1_000_001),
        await liveDisk(random, 700_000),
        await liveDisk(random, 65_536),
      ];
      // A guest that writes the same number to all disks, one after the other, in barriers.
      let number = 0;
      let stopped = false;
      const counter = (async () => {
        for (; !stopped; number++) {
          const bytes = Buffer.alloc(8);
          bytes.writeUInt32LE(number);
          for (const { node } of disks) await node.write(4096, bytes);
        }
      })();
      for (let turns = random.integer(0, 30); turns > 0; turns--) await turn();
      const { sink, job } = sinkBackup(random, disks, 3);
      await job.run();
      stopped = true;
      await counter;
      expect(sink.breaches).toEqual([]);
      const seen = disks.map((_, at) => dumpedContent(sink.disks[at]!, CLUSTER).readUInt32LE(4096));
      // A later disk never shows more than an earlier one, and at most one write less.
      expect([...seen].sort((a, b) => b - a)).toEqual(seen);
      expect(seen[0]! - seen[2]!).toBeLessThanOrEqual(1);
    }
  });

  // In the two last ones it is cancelled while its filters are in and its jobs not yet started.
  it.each([...Array.from({ length: 20 }, (_, seed) => seed), 1077, 1092])(
    'paused, resumed and cancelled at any time, leaves the guest alone, seed %i',
    async (seed) => {
      const random = seededRandom(seed);
      const disks = [await liveDisk(random, random.integer(1, 2_000_000)), await liveDisk(random, 300_000)];
      const { sink, job } = sinkBackup(random, disks);
      const outcome = job.run().then(
        () => 'done',
        (error: unknown) => error,
      );
      let ended = false;
      outcome.finally(() => {
        ended = true;
      });
      const working = disks.map(({ guest }) => guest.work(4));
      while (!ended) {
        for (let turns = random.integer(0, 40); turns > 0; turns--) await turn();
        if (random.oneIn(8)) job.cancel();
        else if (random.oneIn(2)) job.pause();
        else job.resume();
      }
      for (const { guest } of disks) guest.stop();
      await Promise.all(working);
      expect(sink.breaches).toEqual([]);
      for (let turns = 0; turns < 10; turns++) await turn();
      expect(sink.inUse).toBe(0);
      if ((await outcome) === 'done') {
        for (const [at, { node }] of disks.entries()) {
          expect(dumpedContent(sink.disks[at]!, CLUSTER).equals(node.start)).toBe(true);
        }
      } else {
        expect(await outcome).toBeInstanceOf(InterruptedError);
        expect(sink.state).toBe('aborted');
      }
      for (const live of disks) await expectLeftAlone(live);
    },
  );

  it.each(['lease', 'dump', 'dumpRange', 'finish'] as const)(
    'whose sink fails in %s, does not touch the guest',
    async (call) => {
      for (let seed = 0; seed < 5; seed++) {
        const random = seededRandom(seed);
        const live = await liveDisk(random, 1_500_000);
        const sink = new CheckingSink({
          ...{ clusterSizeBytes: CLUSTER, slotBytes: 4 * CLUSTER, slots: 3, random },
          fault: { call, after: call === 'finish' ? 0 : random.integer(0, 3) },
        });
        const job = new BackupJob({
          disks: [{ device: live.node, live: LIVE }],
          sink,
          description: {
            ...{ namespace: '', guestId: '100', timeSeconds: 1, source: 'test', consistency: 'crash', configs: [] },
            disks: [{ name: 'd', kind: 'disk', sizeBytes: live.node.lengthBytes }],
          },
          speedBytesPerSecond: 0,
          clock: REAL_CLOCK,
        });
        const running = job.run().catch((error: unknown) => error);
        const working = live.guest.work(6);
        const outcome = await running;
        live.guest.stop();
        await working;
        expect(sink.breaches).toEqual([]);
        // Guests may have filled every hole before it was dumped.
        if (sink.isBroken) {
          expect(outcome).toMatchObject({ message: `${call} failed` });
          expect(sink.state).toBe('aborted');
        } else {
          expect(call).toBe('dumpRange');
        }
        await expectLeftAlone(live);
      }
    },
  );
});

describe('a live backup to a device', () => {
  it.each(Array.from({ length: 12 }, (_, seed) => seed))('equals its disk at the start, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const live = await liveDisk(random, random.integer(1, 6_000_000));
    const target = new TornDisk(live.node.lengthBytes + random.integer(0, 3), random);
    const targetIsZero = random.oneIn(2);
    if (!targetIsZero) await target.write(0, Buffer.alloc(target.lengthBytes, 0xee));
    const job = deviceJob({ source: live.node, live: LIVE }, target, targetIsZero);
    job.start();
    const working = live.guest.work(random.integer(1, 8));
    await job.finished;
    live.guest.stop();
    await working;
    const copied = (await readAll(target)).subarray(0, live.node.start.length);
    expect(copied.equals(live.node.start)).toBe(true);
    expect(job.progress().doneBytes).toBe(live.node.lengthBytes);
    if (targetIsZero) expect(target.zeroedBytes).toBe(0);
    await expectLeftAlone(live);
  });

  it('of several disks, in a transaction, shows one moment', async () => {
    const random = seededRandom(9);
    const disks = [await liveDisk(random, 1_000_001), await liveDisk(random, 2_000_000)];
    const targets = disks.map(({ node }) => new TornDisk(node.lengthBytes, random));
    const jobs = disks.map(({ node }, at) => deviceJob({ source: node, live: LIVE, id: `d${at}` }, targets[at]!));
    const transaction = new JobTransaction({ begin: () => attachTogether(jobs) });
    for (const job of jobs) transaction.add(job);
    transaction.start();
    const working = disks.map(({ guest }) => guest.work(5));
    await transaction.finished;
    for (const { guest } of disks) guest.stop();
    await Promise.all(working);
    for (const [at, live] of disks.entries()) {
      expect((await readAll(targets[at]!)).equals(live.node.start)).toBe(true);
      expect(jobs[at]!.status).toBe('concluded');
      await expectLeftAlone(live);
    }
  });
});

describe('claims of a backup', () => {
  it('keep writers from a still source, and everybody else from the target', async () => {
    const random = seededRandom(1);
    const { node } = await liveDisk(random, 100_000);
    const target = new TornDisk(100_000, random);
    const first = deviceJob({ source: node, id: 'first' }, target);
    first.pause();
    first.start();
    await first.attach();
    const busy = { code: 'device-claimed', exitStatus: 5 };
    const second = deviceJob({ source: node, id: 'second' }, target);
    second.start();
    await expect(second.finished).rejects.toMatchObject(busy);
    const into = deviceJob({ source: target, id: 'third' }, new TornDisk(100_000, random));
    // The target is written to: nobody can back it up as if it stood still.
    into.start();
    await expect(into.finished).rejects.toMatchObject(busy);
    const onto = new DiskBackupJob({
      clock: REAL_CLOCK,
      source: new TornDisk(1000, random),
      target: new DeviceTarget(node, 1000, { clusterSizeBytes: CLUSTER, targetIsZero: false }),
    });
    onto.start();
    await expect(onto.finished).rejects.toMatchObject(busy);
    first.resume();
    await first.finished;
    expect(claimsOf(node)).toEqual([]);
    expect(claimsOf(target)).toEqual([]);
  });

  it('are not needed to refuse what makes no sense', () => {
    const random = seededRandom(1);
    const disk = new TornDisk(1000, random);
    expect(() => deviceJob({ source: disk }, new TornDisk(999, random))).toThrow(
      expect.objectContaining({ code: 'target-too-small' }),
    );
    expect(() => deviceJob({ source: disk, live: LIVE }, new TornDisk(1000, random))).toThrow(
      expect.objectContaining({ code: 'not-a-node' }),
    );
    expect(() => deviceJob({ source: disk, sync: { mode: 'none' } }, new TornDisk(1000, random))).toThrow(
      expect.objectContaining({ code: 'bad-sync' }),
    );
    expect(() => deviceJob({ source: disk }, disk)).toThrow(expect.objectContaining({ code: 'same-device' }));
  });
});
