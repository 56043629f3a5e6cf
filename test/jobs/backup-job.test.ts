// SPDX-License-Identifier: MIT
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ManualClock, REAL_CLOCK } from '#vmar/src/base/clock.js';
import { InterruptedError } from '#vmar/src/base/errors.js';
import type { BlockDevice } from '#vmar/src/block/device.js';
import { openFileDevice } from '#vmar/src/block/file-device.js';
import { BackupJob } from '#vmar/src/jobs/backup-job.js';
import type { JobProgress } from '#vmar/src/jobs/progress.js';
import type { BackupDescription } from '#vmar/src/plugin-api.js';
import { type Random, seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { readAll } from '../block/device-contract.js';
import { CheckingSink, type CheckingSinkOptions, dumpedContent, type SinkCall, SinkFault } from './checking-sink.js';
import { randomDisk, TestDisk } from './test-disk.js';

const directory = scratchDirectory();
const CLUSTER = 65_536;
const SLOT = 4 * CLUSTER;

function describeBackup(devices: readonly BlockDevice[]): BackupDescription {
  return {
    namespace: '',
    guestId: '100',
    timeSeconds: 1_795_226_400,
    source: 'image',
    consistency: 'offline',
    disks: devices.map((device, at) => ({ name: `scsi${at}`, kind: 'disk', sizeBytes: device.lengthBytes })),
    configs: [],
  };
}

function setUp(
  devices: readonly BlockDevice[],
  sinkOptions: Partial<CheckingSinkOptions> = {},
  clock = REAL_CLOCK,
  speed = 0,
) {
  const sink = new CheckingSink({ clusterSizeBytes: CLUSTER, slotBytes: SLOT, slots: 6, ...sinkOptions });
  const reports: JobProgress[] = [];
  const job = new BackupJob({
    disks: devices.map((device) => ({ device })),
    sink,
    description: describeBackup(devices),
    speedBytesPerSecond: speed,
    clock,
    onProgress: (progress) => reports.push(progress),
  });
  return { sink, job, reports };
}

async function randomDisks(random: Random, most = 3): Promise<TestDisk[]> {
  const disks: TestDisk[] = [];
  for (let count = random.integer(1, most); count > 0; count--) {
    disks.push(await randomDisk(random, random.oneIn(6) ? 0 : random.integer(1, 3_000_000), `disk ${count}`));
  }
  return disks;
}

/** The backup is whole and right, and the protocol was kept. */
async function expectBackedUp(sink: CheckingSink, devices: readonly BlockDevice[]): Promise<void> {
  expect(sink.breaches).toEqual([]);
  expect(sink.state).toBe('finished');
  expect(sink.inUse).toBe(0);
  for (const [at, device] of devices.entries()) {
    const dumped = dumpedContent(sink.disks[at]!, sink.clusterSizeBytes);
    expect(dumped.equals(await readAll(device))).toBe(true);
  }
}

/** The job ended badly, and left nothing behind. */
async function expectAborted(sink: CheckingSink, devices: readonly TestDisk[]): Promise<void> {
  for (const device of devices) expect(device.readsUnderWay).toBe(0);
  expect(sink.state).toBe('aborted');
  // Leases that came too late are given back in their own turn.
  for (let turns = 0; turns < 4; turns++) await turn();
  expect(sink.inUse).toBe(0);
  expect(sink.breaches).toEqual([]);
}

describe('BackupJob', () => {
  it.each(Array.from({ length: 25 }, (_, seed) => seed))(
    'backs up sparse disks of any length, seed %i',
    async (seed) => {
      const random = seededRandom(seed);
      const disks = await randomDisks(random);
      const { sink, job, reports } = setUp(disks, { random, slots: random.integer(1, 6) });
      expect(job.state).toEqual({ name: 'created' });
      const result = await job.run();
      expect(job.state).toEqual({ name: 'concluded', outcome: 'done', result });
      const total = disks.reduce((sum, disk) => sum + disk.lengthBytes, 0);
      const read = disks.reduce((sum, disk) => sum + disk.readBytes, 0);
      const expected = {
        totalBytes: total,
        doneBytes: total,
        readBytes: read,
        zeroBytes: total - read,
        unchangedBytes: 0,
      };
      expect(job.progress()).toEqual(expected);
      expect(reports.at(-1)).toEqual(expected);
      await expectBackedUp(sink, disks);
    },
  );

  it('keeps several reads under way, and no more than four', async () => {
    const disk = new TestDisk(40 * SLOT);
    for (let at = 0; at < 40; at++) await disk.write(at * SLOT, Buffer.alloc(SLOT, at + 1));
    disk.random = seededRandom(1);
    const { sink, job } = setUp([disk], { slots: 10 });
    await job.run();
    expect(disk.mostReadsUnderWay).toBe(4);
    expect(sink.calls.get('dump')).toBe(disk.reads);
    await expectBackedUp(sink, [disk]);
  });

  it('skips a hole of 64 TiB in one call', async () => {
    const length = 64 * 2 ** 40 + 1234;
    const disk = new TestDisk(length);
    await disk.write(0, Buffer.alloc(10, 1));
    await disk.write(length - 10, Buffer.alloc(10, 2));
    const { sink, job } = setUp([disk]);
    await job.run();
    expect(sink.breaches).toEqual([]);
    expect(sink.disks[0]!.zeroRanges).toEqual([{ first: 1, count: 64 * 2 ** 24 - 1 }]);
    expect(disk.reads).toBe(2);
    expect(disk.statusCalls).toBeLessThan(2000);
  });

  it('backs up a sparse file and finds its holes', async () => {
    const path = join(directory, 'sparse.raw');
    writeFileSync(path, '');
    truncateSync(path, 20_000_001);
    const writer = await openFileDevice(path, { readOnly: false });
    const random = seededRandom(5);
    for (const at of [3_000_000, 3_700_000, 19_999_000]) await writer.write(at, random.bytes(1001));
    await writer.close();
    const device = await openFileDevice(path, { readOnly: true });
    const { sink, job } = setUp([device]);
    await job.run();
    await expectBackedUp(sink, [device]);
    expect(job.progress().readBytes).toBeLessThan(5 * CLUSTER);
    await device.close();
  });

  it('refuses disks that are not as described', () => {
    const disk = new TestDisk(10);
    const { sink } = setUp([disk]);
    const options = { sink, speedBytesPerSecond: 0, clock: REAL_CLOCK, disks: [{ device: disk }] };
    const mismatch = expect.objectContaining({ code: 'disk-mismatch' });
    expect(() => new BackupJob({ ...options, description: describeBackup([]) })).toThrow(mismatch);
    expect(() => new BackupJob({ ...options, description: describeBackup([new TestDisk(11)]) })).toThrow(mismatch);
  });

  it('runs once', async () => {
    const { job } = setUp([]);
    await job.run();
    await expect(job.run()).rejects.toMatchObject({ code: 'bug' });
    expect(job.state).toMatchObject({ outcome: 'done' });
  });
});

describe('BackupJob on failure', () => {
  it.each(Array.from({ length: 15 }, (_, seed) => seed))('of a read, aborts and says where, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const disk = await randomDisk(random, 3_000_000, 'bad disk');
    disk.failAt = random.integer(0, 2_999_999);
    await disk.write(disk.failAt, Buffer.alloc(1, 1));
    const { sink, job } = setUp([disk], { random, slots: random.integer(1, 6) });
    const error = { code: 'read-failed', object: 'bad disk', offsetBytes: disk.failAt };
    await expect(job.run()).rejects.toMatchObject(error);
    expect(job.state).toMatchObject({ name: 'concluded', outcome: 'failed', error });
    await expectAborted(sink, [disk]);
  });

  it('of a read, stops waiting for a slot', async () => {
    const disk = new TestDisk(20 * SLOT);
    for (let at = 0; at < 20; at++) await disk.write(at * SLOT, Buffer.alloc(SLOT, 1));
    disk.failAt = SLOT;
    const { sink, job } = setUp([disk], { fault: { call: 'lease', after: 2, hangs: true } });
    await expect(job.run()).rejects.toMatchObject({ code: 'read-failed' });
    await expectAborted(sink, [disk]);
  });

  it.each([
    ['image-shrank', -1],
    ['image-grew', 1],
  ])('%s, notices in the end', async (code, change) => {
    const disks = [new TestDisk(0), new TestDisk(100_000, 'resized')];
    disks[1]!.lengthLater += change;
    const { sink, job } = setUp(disks);
    await expect(job.run()).rejects.toMatchObject({ code, object: 'resized', exitStatus: 1 });
    await expectAborted(sink, disks);
  });

  it('of a file that gets shorter meanwhile, aborts', async () => {
    const path = join(directory, 'shrinking.raw');
    writeFileSync(path, Buffer.alloc(4 * SLOT, 1));
    const device = await openFileDevice(path, { readOnly: true });
    const { sink, job } = setUp([device]);
    truncateSync(path, SLOT + 100);
    await expect(job.run()).rejects.toMatchObject({ code: 'image-shrank', object: path });
    await expectAborted(sink, []);
    await device.close();
  });

  const faults: [SinkCall, number][] = [
    ['begin', 0],
    ['finish', 0],
  ];
  for (const call of ['lease', 'dump', 'dumpRange'] as const) faults.push([call, 0], [call, 1], [call, 2]);
  it.each(faults)('of the sink in %s after %i good ones, aborts it', async (call, after) => {
    for (const seed of [1, 2, 3, 4]) {
      const random = seededRandom(seed);
      const disks = [await randomDisk(random, 3_000_000), await randomDisk(random, 2_000_000)];
      const { sink, job } = setUp(disks, { random, slots: random.integer(1, 6), fault: { call, after } });
      await expect(job.run()).rejects.toBeInstanceOf(SinkFault);
      await expectAborted(sink, disks);
    }
  });

  it('tells the first error, also when the abort fails', async () => {
    const disk = new TestDisk(SLOT);
    await disk.write(0, Buffer.alloc(1, 1));
    disk.failAt = 0;
    const { job } = setUp([disk], { fault: { call: 'abort', after: 0 } });
    await expect(job.run()).rejects.toMatchObject({ code: 'read-failed' });
  });
});

describe('BackupJob under control', () => {
  it.each(Array.from({ length: 20 }, (_, seed) => seed))(
    'may be paused and resumed at any time, seed %i',
    async (seed) => {
      const random = seededRandom(seed);
      const disks = await randomDisks(random);
      const { sink, job } = setUp(disks, { random, slots: random.integer(1, 6) });
      if (random.oneIn(2)) job.pause();
      const run = job.run();
      let ended = false;
      run.then(() => {
        ended = true;
      });
      while (!ended) {
        for (let turns = random.integer(0, 10); turns > 0; turns--) await turn();
        job.pause();
        if (ended) break;
        expect(['paused', 'concluded']).toContain(job.state.name);
        const reads = disks.map((disk) => disk.reads);
        for (let turns = random.integer(0, 20); turns > 0; turns--) await turn();
        expect(disks.map((disk) => disk.reads)).toEqual(reads);
        job.resume();
      }
      await run;
      await expectBackedUp(sink, disks);
    },
  );

  it.each(Array.from({ length: 30 }, (_, seed) => seed))('may be cancelled at any time, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const disks = await randomDisks(random);
    const { sink, job } = setUp(disks, { random, slots: random.integer(1, 6) });
    const run = job.run();
    const outcome = run.then(
      () => 'done',
      (error: unknown) => error,
    );
    for (let turns = random.integer(0, 40); turns > 0; turns--) await turn();
    if (random.oneIn(3)) job.pause();
    for (let turns = random.integer(0, 5); turns > 0; turns--) await turn();
    job.cancel();
    job.cancel();
    if ((await outcome) === 'done') {
      await expectBackedUp(sink, disks);
    } else {
      expect(await outcome).toBeInstanceOf(InterruptedError);
      await expectAborted(sink, disks);
    }
  });

  it('cancelled before it runs, does nothing', async () => {
    const disk = new TestDisk(10);
    const { sink, job } = setUp([disk]);
    job.cancel();
    await expect(job.run()).rejects.toBeInstanceOf(InterruptedError);
    expect(sink.state).toBe('aborted');
    expect(sink.calls.has('begin')).toBe(false);
  });

  it('cancelled while the sink keeps it waiting for a slot, ends', async () => {
    const disk = new TestDisk(SLOT);
    await disk.write(0, Buffer.alloc(1, 1));
    const { sink, job } = setUp([disk], { fault: { call: 'lease', after: 0, hangs: true } });
    const run = job.run();
    while (!sink.calls.has('lease')) await turn();
    job.cancel();
    await expect(run).rejects.toBeInstanceOf(InterruptedError);
    await expectAborted(sink, [disk]);
  });
});

describe('BackupJob with a speed limit', () => {
  const fullDisk = async (slots: number) => {
    const disk = new TestDisk(slots * SLOT);
    for (let at = 0; at < slots; at++) await disk.write(at * SLOT, Buffer.alloc(SLOT, at + 1));
    return disk;
  };
  const settle = async () => {
    for (let turns = 0; turns < 20; turns++) await turn();
  };

  it('reads no faster, and holes are free', async () => {
    const clock = new ManualClock();
    const disk = await fullDisk(8);
    await disk.writeZeroes(4 * SLOT, 4 * SLOT);
    const { sink, job } = setUp([disk], {}, clock, SLOT);
    const run = job.run();
    for (let seconds = 0; seconds < 3; seconds++) {
      await settle();
      expect(clock.monotonicMillis()).toBe(seconds * 1000);
      expect(disk.reads).toBe(seconds + 1);
      clock.advanceToNext();
    }
    await run;
    expect(clock.monotonicMillis()).toBe(3000);
    await expectBackedUp(sink, [disk]);
  });

  it('takes a new speed while it waits', async () => {
    const clock = new ManualClock();
    const disk = await fullDisk(8);
    const { sink, job } = setUp([disk], {}, clock, 1);
    const run = job.run();
    await settle();
    expect(disk.reads).toBe(1);
    job.setSpeed(0);
    await run;
    expect(clock.monotonicMillis()).toBe(0);
    await expectBackedUp(sink, [disk]);
  });

  it('is cancelled while it waits', async () => {
    const clock = new ManualClock();
    const disk = await fullDisk(8);
    const { sink, job } = setUp([disk], {}, clock, 1);
    const run = job.run();
    await settle();
    job.cancel();
    await expect(run).rejects.toBeInstanceOf(InterruptedError);
    expect(clock.sleeping).toBe(0);
    await expectAborted(sink, [disk]);
  });

  it('reports ten times a second at most', async () => {
    const clock = new ManualClock();
    const disk = await fullDisk(40);
    const { job, reports } = setUp([disk], {}, clock, 25 * SLOT);
    const run = job.run();
    while (job.state.name !== 'concluded') {
      await settle();
      clock.advance(20);
    }
    await run;
    expect(reports.length).toBeGreaterThan(5);
    expect(reports.length).toBeLessThanOrEqual(clock.monotonicMillis() / 100 + 2);
    expect(reports.map((report) => report.doneBytes)).toEqual(
      reports.map((report) => report.doneBytes).sort((a, b) => a - b),
    );
  });
});
