// SPDX-License-Identifier: MIT
// Backups of live disks on devices that fail now and then: what is reported as done is right to the byte.

import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ManualClock, REAL_CLOCK } from '#vmar/src/base/clock.js';
import { FailedError } from '#vmar/src/base/errors.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { FaultFilter } from '#vmar/src/block/filters/fault.js';
import { DiskBackupJob, type DiskBackupOptions } from '#vmar/src/jobs/backup-disk-job.js';
import { DeviceTarget } from '#vmar/src/jobs/backup-to-device.js';
import type { ErrorAction } from '#vmar/src/jobs/job.js';
import { type Random, seededRandom } from '../base/random.js';
import { readAll } from '../block/device-contract.js';
import { fillRandomly, Guest, TornDisk } from './guest.js';

const CLUSTER = 65_536;

async function setUp(random: Random, options: Partial<DiskBackupOptions>, lengthBytes = random.integer(1, 3_000_000)) {
  const disk = new TornDisk(lengthBytes, random);
  const start = await fillRandomly(disk, random);
  const node = new BlockNode(disk);
  const reads = await node.insertFilter((below) => new FaultFilter(below));
  const store = new TornDisk(lengthBytes, random, 'target');
  const target = new BlockNode(store);
  const writes = await target.insertFilter((below) => new FaultFilter(below));
  const targetIsZero = random.oneIn(2);
  if (!targetIsZero) await store.write(0, Buffer.alloc(lengthBytes, 0xdd));
  const job = new DiskBackupJob({
    clock: REAL_CLOCK,
    source: node,
    target: new DeviceTarget(target, lengthBytes, { clusterSizeBytes: CLUSTER, targetIsZero }),
    live: { policy: 'break-guest-write' },
    ...options,
  });
  return { start, node, disk, reads, store, writes, job, guest: new Guest(node, start, random) };
}

/** Some faults that strike a few times each. */
function addFaults(
  random: Random,
  lengthBytes: number,
  { reads, writes }: { reads: FaultFilter; writes: FaultFilter },
) {
  for (let count = random.integer(1, 5); count > 0; count--) {
    const range = { offsetBytes: random.integer(0, lengthBytes - 1), lengthBytes: random.integer(1, 200_000) };
    const often = { range, after: random.integer(0, 2), times: random.integer(1, 4) };
    if (random.oneIn(2)) {
      reads.add({ operation: 'read', ...often, effect: { kind: 'error' } });
    } else {
      const when = (['before', 'midway', 'after'] as const)[random.integer(0, 2)]!;
      writes.add({ operation: ['write', 'write-zeroes'], ...often, effect: { kind: 'error', when } });
    }
  }
}

/** Resumes whatever stopped, until the end. */
async function tendTo(job: DiskBackupJob, random: Random): Promise<unknown> {
  let ended = false;
  const outcome = job.finished.then(
    () => 'done',
    (error: unknown) => error,
  );
  outcome.finally(() => {
    ended = true;
  });
  while (!ended) {
    for (let turns = random.integer(0, 10); turns > 0; turns--) await turn();
    if (job.status === 'paused') job.resume();
    else if (random.oneIn(10)) job.pause();
  }
  return await outcome;
}

describe('a live backup among faults', () => {
  it.each(Array.from({ length: 24 }, (_, seed) => seed))('goes on to a right end, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const action: ErrorAction = random.oneIn(2) ? 'stop' : 'ignore';
    const world = await setUp(random, { onSourceError: action, onTargetError: action });
    const { start, node, job, guest, store } = world;
    job.start();
    await job.attach();
    addFaults(random, node.lengthBytes, world);
    const working = guest.work(random.integer(0, 6));
    expect(await tendTo(job, random)).toBe('done');
    guest.stop();
    await working;
    world.reads.clear();
    expect((await readAll(store)).equals(start)).toBe(true);
    expect(job.progress().doneBytes).toBe(node.lengthBytes);
    expect((await readAll(node)).equals(guest.content)).toBe(true);
    for (const failure of guest.failures) expect(failure).toMatchObject({ code: 'injected-fault' });
  });

  it.each(Array.from({ length: 16 }, (_, seed) => seed))(
    'gives way to the guest where it is told to, seed %i',
    async (seed) => {
      const random = seededRandom(seed);
      const live = { policy: 'break-snapshot' } as const;
      const world = await setUp(random, { live, onSourceError: 'ignore', onTargetError: 'ignore' });
      const { start, node, job, guest, store, writes } = world;
      job.start();
      await job.attach();
      const range = { offsetBytes: random.integer(0, node.lengthBytes - 1), lengthBytes: 100_000 };
      writes.add({ operation: ['write', 'write-zeroes'], range, times: 3, effect: { kind: 'error' } });
      const working = guest.work(6);
      const outcome = await tendTo(job, random);
      guest.stop();
      await working;
      expect(guest.failures).toEqual([]);
      expect((await readAll(node)).equals(guest.content)).toBe(true);
      if (outcome === 'done') expect((await readAll(store)).equals(start)).toBe(true);
      else expect(outcome).toMatchObject({ code: 'snapshot-broken' });
    },
  );
});

describe('a backup', () => {
  it('ends with the error of a device where errors are reported', async () => {
    for (const side of ['source', 'target'] as const) {
      const random = seededRandom(6);
      const { job, reads, writes, guest } = await setUp(random, {}, 1_000_000);
      if (side === 'source') reads.add({ operation: 'read', effect: { kind: 'error' } });
      else writes.add({ operation: ['write', 'write-zeroes'], effect: { kind: 'error' } });
      job.start();
      await expect(job.finished).rejects.toMatchObject({ code: 'injected-fault' });
      // The guest goes on, whatever the policy was.
      reads.clear();
      await guest.work(2, 20);
      expect(guest.failures).toEqual([]);
    }
  });

  it('stops when the target is full, and goes on when there is room', async () => {
    const random = seededRandom(7);
    const { job, writes, store, start } = await setUp(random, { onTargetError: 'enospc' }, 1_000_000);
    const full = new FailedError('no-space', 'full');
    const fault = writes.add({
      operation: ['write', 'write-zeroes'],
      effect: { kind: 'error', error: full },
    });
    job.start();
    while (job.status !== 'paused') await turn();
    expect(job.ioStatus).toBe('nospace');
    job.resume();
    while (job.status !== 'paused') await turn();
    fault.remove();
    job.resume();
    await job.finished;
    expect((await readAll(store)).equals(start)).toBe(true);
  });

  it('of a disk that cannot be read rests between its attempts', async () => {
    const random = seededRandom(8);
    const clock = new ManualClock();
    const { job, reads } = await setUp(random, { clock, onSourceError: 'ignore' }, 100_000);
    reads.add({ operation: 'read', effect: { kind: 'error' } });
    job.start();
    while (clock.sleeping === 0) await turn();
    clock.advanceToNext();
    for (let turns = 0; turns < 100; turns++) await turn();
    expect(clock.sleeping).toBe(1);
    job.cancel();
    await expect(job.finished).rejects.toMatchObject({ code: 'interrupted' });
  });

  it.each(['break-guest-write', 'break-snapshot'] as const)('whose target hangs, %s after a while', async (policy) => {
    const random = seededRandom(9);
    const clock = new ManualClock();
    const live = { policy, timeoutMillis: 2000 };
    const { job, writes, store, start, guest, node } = await setUp(random, { clock, live }, 1_000_000);
    let release = () => {};
    const until = new Promise<void>((resolve) => {
      release = resolve;
    });
    const fault = writes.add({ operation: ['write', 'write-zeroes'], effect: { kind: 'hold', until } });
    job.pause();
    job.start();
    await job.attach();
    await node.read(0, Buffer.alloc(1));
    const bytes = random.bytes(1000);
    const writing = node.write(500_000, bytes).then(
      () => 'written',
      (error: { code: string }) => error.code,
    );
    while (clock.sleeping === 0) await turn();
    clock.advance(2000);
    const brokeGuest = policy === 'break-guest-write';
    expect(await writing).toBe(brokeGuest ? 'copy-timeout' : 'written');
    if (!brokeGuest) guest.content.set(bytes, 500_000);
    fault.remove();
    release();
    job.resume();
    if (brokeGuest) {
      await job.finished;
      expect((await readAll(store)).equals(start)).toBe(true);
    } else {
      await expect(job.finished).rejects.toMatchObject({ code: 'snapshot-broken', cause: { code: 'copy-timeout' } });
    }
    expect((await readAll(node)).equals(guest.content)).toBe(true);
  });
});
