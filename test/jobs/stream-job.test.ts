// SPDX-License-Identifier: MIT

import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Clock, ManualClock, REAL_CLOCK } from '#vmar/src/base/clock.js';
import { DamageError, FailedError } from '#vmar/src/base/errors.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { claim } from '#vmar/src/block/claims.js';
import type { AllocTrack } from '#vmar/src/block/filters/alloc-track.js';
import type { StreamJob, StreamJobOptions } from '#vmar/src/jobs/stream-job.js';
import { insertBacking, NodeStreamJob } from '#vmar/src/jobs/stream-node.js';
import { seededRandom } from '../base/random.js';
import { ioError, LivelyDevice, noSpace, once, type Seen } from './lively-device.js';

const MIB = 2 ** 20;
const LENGTH = 8 * MIB + 777;

interface Bench {
  readonly backing: LivelyDevice;
  readonly target: LivelyDevice;
  readonly node: BlockNode;
  readonly filter: AllocTrack;
  readonly job: StreamJob;
  readonly damaged: [number, number][];
}

/** A backing of random bytes with a hole of 3 MiB, an empty target under a filter, and a job that is not started. */
async function bench(wishes: Partial<StreamJobOptions> = {}): Promise<Bench> {
  const backing = new LivelyDevice(LENGTH, 'backing');
  const target = new LivelyDevice(LENGTH, 'target');
  await backing.memory.write(0, seededRandom(3).bytes(LENGTH));
  await backing.memory.writeZeroes(4 * MIB, 3 * MIB);
  const node = new BlockNode(target);
  const filter = await insertBacking(node, backing, { targetIsZero: true });
  const damaged: [number, number][] = [];
  const job = new NodeStreamJob({
    ...{ node, filter, clock: REAL_CLOCK },
    onDamaged: ({ offsetBytes, lengthBytes }) => damaged.push([offsetBytes, lengthBytes]),
    ...wishes,
  });
  return { backing, target, node, filter, job, damaged };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

async function expectFilled({ backing, target, node }: Bench): Promise<void> {
  expect((await target.bytes()).equals(await backing.bytes())).toBe(true);
  expect(node.device).toBe(target);
}

const touches = ({ offsetBytes, lengthBytes }: Seen, from: number, to: number) =>
  offsetBytes < to && offsetBytes + lengthBytes > from;

describe('a stream', () => {
  it('fills the device, ascending, flushes it, lets go of the backing and takes the filter out', async () => {
    const made = await bench({ inFlight: 1 });
    made.job.start();
    await made.job.finished;
    await expectFilled(made);
    const reads = made.backing.of('read').map(({ offsetBytes }) => offsetBytes);
    expect(reads).toEqual([0, MIB, 2 * MIB, 3 * MIB, 7 * MIB, 8 * MIB]);
    expect(made.target.seen.at(-1)?.operation).toBe('flush');
    expect(made.job.progress()).toMatchObject({ totalBytes: LENGTH, doneBytes: LENGTH, zeroBytes: 3 * MIB });
    made.backing.seen.length = 0;
    await made.node.read(0, Buffer.alloc(LENGTH));
    expect(made.backing.seen).toEqual([]);
  });

  it('writes zeros to a target that is not zero', async () => {
    const backing = new LivelyDevice(LENGTH, 'backing');
    const target = new LivelyDevice(LENGTH, 'target');
    await target.memory.write(0, Buffer.alloc(LENGTH, 0xaa));
    await backing.memory.write(17, Buffer.from('content'));
    const node = new BlockNode(target);
    const filter = await insertBacking(node, backing, { targetIsZero: false });
    const job = new NodeStreamJob({ node, filter, clock: REAL_CLOCK });
    job.start();
    await job.finished;
    expect((await target.bytes()).equals(await backing.bytes())).toBe(true);
  });

  it('leaves alone what the guest wrote, and counts it as done', async () => {
    const made = await bench();
    await made.node.write(MIB + 4096, Buffer.alloc(8192, 7));
    await made.node.discard(2 * MIB, MIB);
    expect(made.job.progress().doneBytes).toBe(8192 + MIB);
    made.job.start();
    await made.job.finished;
    const target = await made.target.bytes();
    expect(target.subarray(MIB + 4096, MIB + 12288).equals(Buffer.alloc(8192, 7))).toBe(true);
    expect(target.subarray(2 * MIB, 3 * MIB).equals(Buffer.alloc(MIB))).toBe(true);
    expect(made.job.progress()).toMatchObject({ totalBytes: LENGTH, doneBytes: LENGTH, unchangedBytes: 8192 + MIB });
  });

  it('keeps what it has filled when it is cancelled; another one goes on', async () => {
    const made = await bench({ speedBytesPerSecond: MIB });
    made.job.start();
    await until(() => made.filter.held.dirtyBytes > 0);
    made.job.cancel();
    await expect(made.job.finished).rejects.toMatchObject({ code: 'interrupted' });
    expect(made.node.device).toBe(made.filter);
    const { node, filter } = made;
    const next = new NodeStreamJob({ node, filter, clock: REAL_CLOCK });
    next.start();
    await next.finished;
    await expectFilled(made);
  });

  it('is the only one that fills its device, and lets go of it when it has ended', async () => {
    const made = await bench({ speedBytesPerSecond: MIB });
    const { node, filter } = made;
    made.job.start();
    await until(() => made.filter.held.dirtyBytes > 0);
    const second = new NodeStreamJob({ node, filter, clock: REAL_CLOCK });
    second.start();
    await expect(second.finished).rejects.toMatchObject({ code: 'device-claimed' });
    expect(() => claim(node, 'a mirror', ['write'], ['consistent-read'])).toThrow('write-unchanged');
    made.job.setSpeed(0);
    await made.job.finished;
    await expectFilled(made);
    claim(node, 'a mirror', ['write'], ['consistent-read']).release();
  });

  it('keeps to its speed; holes are free', async () => {
    const clock = new ManualClock();
    const made = await bench({ speedBytesPerSecond: MIB, clock });
    let isOver = false;
    void made.job.finished.then(() => {
      isOver = true;
    });
    made.job.start();
    while (!isOver) {
      for (let turns = 0; turns < 30; turns++) await turn();
      clock.advanceToNext();
    }
    const seconds = clock.monotonicMillis() / 1000;
    expect(seconds).toBeGreaterThan(3.8);
    expect(seconds).toBeLessThan(5.5);
    await expectFilled(made);
  });

  it('begins nothing while it is paused', async () => {
    const made = await bench({ inFlight: 1 });
    made.backing.random = seededRandom(4);
    made.job.start();
    await until(() => made.filter.held.dirtyBytes > 0);
    made.job.pause();
    await until(() => made.target.underWay + made.backing.underWay === 0);
    for (let turns = 0; turns < 30; turns++) await turn();
    const held = made.filter.held.dirtyBytes;
    for (let turns = 0; turns < 30; turns++) await turn();
    expect(made.filter.held.dirtyBytes).toBe(held);
    expect(held).toBeLessThan(LENGTH);
    made.job.resume();
    await made.job.finished;
    await expectFilled(made);
  });
});

describe('the guest comes first:', () => {
  it('each piece is asked for, and small while a guest is at work', async () => {
    let asked = 0;
    const made = await bench({
      yieldTo: () => {
        asked++;
        return Promise.resolve();
      },
    });
    made.job.start();
    await made.job.finished;
    const reads = made.backing.of('read').slice(3);
    expect(Math.max(...reads.map(({ lengthBytes }) => lengthBytes))).toBe(128 * 1024);
    expect(asked).toBeGreaterThanOrEqual(reads.length);
    expect(made.backing.mostUnderWay).toBe(1);
    await expectFilled(made);
  });

  it('pieces stay small for a while after a guest was met', async () => {
    const clock = new ManualClock();
    let asked = 0;
    const made = await bench({ clock, yieldTo: () => (asked++ === 0 ? Promise.resolve() : undefined) });
    made.backing.hold = ({ operation, offsetBytes }) => {
      if (operation === 'read' && offsetBytes >= 2 * MIB) clock.advance(200);
      return undefined;
    };
    made.job.start();
    await made.job.finished;
    const reads = made.backing.of('read');
    const sizes = (from: number, to: number) =>
      reads.filter(({ offsetBytes }) => offsetBytes >= from && offsetBytes < to).map(({ lengthBytes }) => lengthBytes);
    expect(new Set(sizes(0, 2 * MIB))).toEqual(new Set([128 * 1024]));
    expect(Math.max(...sizes(3 * MIB, 4 * MIB))).toBeGreaterThan(128 * 1024);
    await expectFilled(made);
  });

  it('but a guest that never rests does not stop the job for ever', async () => {
    const made = await bench({ yieldTo: () => new Promise(() => {}), mostYieldMillis: 1 });
    made.job.start();
    await made.job.finished;
    await expectFilled(made);
  });

  it('a job that waits for a guest can be cancelled', async () => {
    const clock = new ManualClock();
    const made = await bench({ yieldTo: () => new Promise(() => {}), clock });
    made.job.start();
    await until(() => clock.sleeping > 0);
    made.job.cancel();
    await expect(made.job.finished).rejects.toMatchObject({ code: 'interrupted' });
    expect(clock.sleeping).toBe(0);
  });
});

describe('a damaged backing', () => {
  const damage = (ranges: readonly [number, number][]) => (seen: Seen) =>
    seen.operation === 'read' && ranges.some(([from, to]) => touches(seen, from, to))
      ? new DamageError('chunk-damaged', 'a chunk is damaged')
      : undefined;

  it('is told range by range, all else is filled, and the job stops until it is resumed', async () => {
    const made = await bench();
    made.backing.fault = damage([
      [MIB + 65_536, MIB + 131_072],
      [3 * MIB, 3 * MIB + 5000],
      [LENGTH - 100, LENGTH],
    ]);
    made.job.start();
    await until(() => made.job.status === 'paused');
    expect(made.job.ioStatus).toBe('failed');
    // Two pieces are under way at a time.
    expect(made.damaged.sort(([a], [b]) => a - b)).toEqual([
      [MIB + 65_536, 65_536],
      [3 * MIB, 8192],
      [LENGTH - (LENGTH % 4096), LENGTH % 4096],
    ]);
    expect(made.filter.held.dirtyBytes).toBe(LENGTH - 65_536 - 8192 - (LENGTH % 4096));
    await expect(made.node.read(MIB + 65_536, Buffer.alloc(1))).rejects.toMatchObject({ code: 'chunk-damaged' });

    // The guest overwrites one; the job tries the others again, and stops again.
    await made.node.write(MIB + 65_536, Buffer.alloc(65_536, 9));
    made.damaged.length = 0;
    made.job.resume();
    expect(made.job.ioStatus).toBe('ok');
    await until(() => made.job.status === 'paused');
    expect(made.damaged.map(([offset]) => offset).sort((a, b) => a - b)).toEqual([3 * MIB, LENGTH - (LENGTH % 4096)]);
    await made.node.writeZeroes(3 * MIB, 8192);
    await made.node.writeZeroes(LENGTH - (LENGTH % 4096), LENGTH % 4096);
    made.job.resume();
    await made.job.finished;
    expect(made.node.device).toBe(made.target);
    const target = await made.target.bytes();
    expect(target.subarray(MIB + 65_536, MIB + 131_072).equals(Buffer.alloc(65_536, 9))).toBe(true);
  });

  it('is narrowed down no further than asked for', async () => {
    const made = await bench({ narrowestBytes: 65_536 });
    made.backing.fault = damage([[MIB + 70_000, MIB + 70_001]]);
    made.job.start();
    await until(() => made.job.status === 'paused');
    expect(made.damaged).toEqual([[MIB + 65_536, 65_536]]);
    made.backing.fault = undefined;
    made.job.resume();
    await made.job.finished;
    await expectFilled(made);
  });
});

describe('a backing that cannot be reached', () => {
  const away = new FailedError('store-unreachable', 'the datastore cannot be reached');

  it('is waited for, longer each time, and nothing is skipped', async () => {
    const clock = new ManualClock();
    const waits: number[] = [];
    let isBack = false;
    const made = await bench({
      clock,
      onUnreachable: (_error, waitMillis) => waits.push(waitMillis),
      onReachable: () => {
        isBack = true;
      },
    });
    made.backing.fault = (seen) => (seen.operation === 'read' && touches(seen, 2 * MIB, LENGTH) ? away : undefined);
    made.job.start();
    while (waits.length < 10) {
      await turn();
      clock.advanceToNext();
    }
    expect(waits).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
    expect(made.job.status).toBe('running');
    expect(isBack).toBe(false);
    made.backing.fault = undefined;
    clock.advanceToNext();
    await until(() => {
      clock.advanceToNext();
      return made.job.status === 'concluded';
    });
    expect(isBack).toBe(true);
    await expectFilled(made);
  });

  it('does not keep the job from being cancelled', async () => {
    const clock = new ManualClock();
    const made = await bench({ clock });
    made.backing.fault = ({ operation }) => (operation === 'read' ? away : undefined);
    made.job.start();
    await until(() => clock.sleeping > 0);
    made.job.cancel();
    await expect(made.job.finished).rejects.toMatchObject({ code: 'interrupted' });
  });
});

describe('any other error', () => {
  it('under report fails the job', async () => {
    const made = await bench();
    made.backing.fault = once((seen) => seen.operation === 'read' && seen.offsetBytes > MIB, ioError('backing'));
    made.job.start();
    await expect(made.job.finished).rejects.toMatchObject({ code: 'io-error', object: 'backing' });
    expect(made.backing.underWay + made.target.underWay).toBe(0);
    expect(made.node.device).toBe(made.filter);
  });

  it('under stop and enospc holds it, and is tried again', async () => {
    for (const onError of ['stop', 'enospc'] as const) {
      const made = await bench({ onError });
      made.target.fault = once(({ operation }) => operation === 'write', noSpace('target'));
      made.job.start();
      await until(() => made.job.status === 'paused');
      expect(made.job.ioStatus).toBe('nospace');
      made.job.resume();
      await made.job.finished;
      await expectFilled(made);
    }
  });

  it('under ignore leaves the range out, and fails the job at its end', async () => {
    const made = await bench({ onError: 'ignore' });
    made.backing.fault = (seen) =>
      seen.operation === 'read' && touches(seen, MIB, MIB + 1) ? ioError('backing') : undefined;
    made.job.start();
    await expect(made.job.finished).rejects.toMatchObject({ code: 'io-error' });
    expect(made.filter.held.nextClean(0)).toBe(MIB);
    expect(made.filter.held.dirtyBytes).toBe(LENGTH - MIB);
  });

  it('of a flush is the target’s', async () => {
    const made = await bench({ onError: 'stop' });
    made.target.fault = once(({ operation }) => operation === 'flush', ioError('target'));
    made.job.start();
    await until(() => made.job.status === 'paused');
    made.job.resume();
    await made.job.finished;
    await expectFilled(made);
  });
});

describe('a stream under a guest that writes', () => {
  const HASTY_CLOCK: Clock = { ...REAL_CLOCK, sleep: (_millis, signal) => REAL_CLOCK.sleep(1, signal) };
  /** VMAR_TEST_SEED is the first, VMAR_TEST_ROUNDS how many. */
  const first = Number(process.env.VMAR_TEST_SEED ?? 1);
  const seeds = Array.from({ length: Number(process.env.VMAR_TEST_ROUNDS ?? 16) }, (_, at) => first + at);

  it.each(seeds)('ends with the model to the byte, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const lengthBytes = random.integer(300_000, 1_500_000);
    const backing = new LivelyDevice(lengthBytes, 'backing', random);
    const target = new LivelyDevice(lengthBytes, 'target', random);
    for (let at = 0; at < lengthBytes; at += 60_000) {
      const bytes = random.bytes(Math.min(random.integer(1, 60_000), lengthBytes - at));
      if (random.oneIn(2)) await backing.memory.write(at, bytes);
    }
    const targetIsZero = random.oneIn(2);
    if (!targetIsZero) await target.memory.write(0, random.bytes(lengthBytes));
    const model = await backing.bytes();
    const node = new BlockNode(target);
    const filter = await insertBacking(node, backing, { targetIsZero, copyOnRead: random.oneIn(2) });
    const job = new NodeStreamJob({
      ...{ node, filter, clock: HASTY_CLOCK, onError: 'stop', inFlight: random.integer(1, 4) },
      pieceBytes: random.oneIn(2) ? 65_536 : 2 ** 20,
    });
    job.start();
    // The job's own reads fail, the guest's do not: it writes whole granules, and reads what is held.
    const failing = (seen: Seen) => (random.oneIn(30) && seen.operation !== 'status' ? ioError('backing') : undefined);
    for (let step = 0; step < 60; step++) {
      backing.fault = failing;
      const at = Math.min(lengthBytes - 1, random.integer(0, lengthBytes >> 12) * 4096);
      const end = Math.min(lengthBytes, at + random.integer(1, 20) * 4096);
      const kind = random.integer(0, 2);
      if (kind === 0) {
        const bytes = random.bytes(end - at);
        await node.write(at, bytes);
        model.set(bytes, at);
      } else {
        if (kind === 1) await node.writeZeroes(at, end - at);
        else await node.discard(at, end - at);
        model.fill(0, at, end);
      }
      backing.fault = undefined;
      const into = Buffer.alloc(end - at);
      await node.read(at, into);
      expect(into.equals(model.subarray(at, end))).toBe(true);
      if (random.oneIn(4)) job.pause();
      if (random.oneIn(2)) job.resume();
      if (random.oneIn(5)) job.setSpeed(random.integer(0, 20) * MIB);
    }
    job.setSpeed(0);
    await until(() => {
      job.resume();
      return job.status === 'concluded';
    });
    await job.finished;
    expect(node.device).toBe(target);
    expect((await target.bytes()).equals(model)).toBe(true);
    expect(job.progress()).toMatchObject({ totalBytes: lengthBytes, doneBytes: lengthBytes });
  });
});
