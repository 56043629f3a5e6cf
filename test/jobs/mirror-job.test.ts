// SPDX-License-Identifier: MIT

import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { REAL_CLOCK } from '#vmar/src/base/clock.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { DirtyTracking } from '#vmar/src/block/filters/dirty-tracking.js';
import { FaultFilter } from '#vmar/src/block/filters/fault.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import type { ErrorAction } from '#vmar/src/jobs/job.js';
import { MirrorJob, type MirrorJobOptions } from '#vmar/src/jobs/mirror-job.js';
import { JobTransaction } from '#vmar/src/jobs/transaction.js';
import { seededRandom } from '../base/random.js';
import { ioError, LivelyDevice, noSpace, once } from './lively-device.js';

const CHUNK = 65536;
const LENGTH = 40 * CHUNK + 777;

interface Bench {
  readonly old: LivelyDevice;
  readonly target: LivelyDevice;
  readonly node: BlockNode;
  readonly job: MirrorJob;
  readonly synced: boolean[];
  readonly statuses: string[];
}

type Wishes = Partial<MirrorJobOptions> & { lengthBytes?: number };

/** A source of random bytes with a hole, an unlike target, and a job that is not started. */
async function bench({ lengthBytes = LENGTH, ...wishes }: Wishes = {}): Promise<Bench> {
  const random = seededRandom(7);
  const old = new LivelyDevice(lengthBytes, 'old');
  const target = new LivelyDevice(lengthBytes, 'target');
  await old.memory.write(0, random.bytes(lengthBytes));
  await old.memory.writeZeroes(10 * CHUNK, 5 * CHUNK);
  if (!wishes.targetIsZero) await target.memory.write(0, Buffer.alloc(lengthBytes, 0xaa));
  const node = new BlockNode(old);
  const synced: boolean[] = [];
  const statuses: string[] = [];
  const job = new MirrorJob({
    ...{ source: node, target, sync: 'full', clock: REAL_CLOCK, hasIoStatus: true },
    onSynced: (isSynced) => synced.push(isSynced),
    onStatus: (status) => statuses.push(status),
    ...wishes,
  });
  return { old, target, node, job, synced, statuses };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

const ready = (job: MirrorJob) => until(() => job.status === 'ready' || job.status === 'concluded');

async function expectSame({ old, target }: Bench): Promise<void> {
  expect((await target.bytes()).equals(await old.bytes())).toBe(true);
}

describe('a mirror', () => {
  it('copies all, flushes, is ready, and switches over when it is completed', async () => {
    const made = await bench();
    const { job, node, target, old } = made;
    job.start();
    await ready(job);
    expect(job.isSynced).toBe(true);
    expect(target.seen.at(-1)?.operation).toBe('flush');
    await expectSame(made);
    await job.complete();
    await job.finished;
    expect(node.device).toBe(target);
    expect(job.formerSource?.device).toBe(old);
    expect(made.statuses).toEqual(['running', 'ready', 'waiting', 'pending', 'concluded']);
    const before = await old.bytes();
    await node.write(5, Buffer.from('after'));
    expect((await target.bytes()).subarray(5, 10).toString()).toBe('after');
    expect((await old.bytes()).equals(before)).toBe(true);
    expect(job.progress()).toMatchObject({ totalBytes: LENGTH, doneBytes: LENGTH, zeroBytes: 5 * CHUNK });
  });

  it('refuses to complete before it is ready, and goes on', async () => {
    const made = await bench();
    await expect(made.job.complete()).rejects.toMatchObject({ code: 'job-not-ready', exitStatus: 2 });
    made.job.start();
    await expect(made.job.complete()).rejects.toMatchObject({ code: 'job-not-ready' });
    await ready(made.job);
    await made.job.complete();
    await made.job.finished;
    expect(made.node.device).toBe(made.target);
  });

  it('cancelled before it is ready, ends at once and leaves the source alone', async () => {
    const made = await bench({ speedBytesPerSecond: CHUNK });
    made.job.start();
    await until(() => made.target.of('write').length > 0);
    made.job.cancel();
    await expect(made.job.finished).rejects.toMatchObject({ code: 'interrupted' });
    expect(made.node.device).toBe(made.old);
    expect(made.target.underWay).toBe(0);
    const writes = made.target.seen.length;
    await made.node.write(0, Buffer.from('x'));
    for (let turns = 0; turns < 20; turns++) await turn();
    expect(made.target.seen.length).toBe(writes);
  });

  it('cancelled after it was ready, finishes what is pending and does not switch', async () => {
    const made = await bench();
    made.job.start();
    await ready(made.job);
    made.job.pause();
    expect(made.job.status).toBe('standby');
    await made.node.write(3 * CHUNK + 5, Buffer.from('pending'));
    await made.node.discard(20 * CHUNK, 2 * CHUNK + 9);
    made.job.cancel();
    await made.job.finished;
    expect(made.node.device).toBe(made.old);
    await expectSame(made);
    expect(made.target.seen.at(-1)?.operation).toBe('flush');
    await expect(made.job.complete()).rejects.toMatchObject({ code: 'job-not-ready' });
  });

  it('cancelled by force after it was ready, ends at once', async () => {
    const made = await bench();
    made.job.start();
    await ready(made.job);
    made.job.cancel({ force: true });
    await expect(made.job.finished).rejects.toMatchObject({ code: 'interrupted' });
    expect(made.node.device).toBe(made.old);
  });

  it('follows changes of every kind', async () => {
    const made = await bench();
    const { job, node } = made;
    job.start();
    await ready(job);
    await node.write(CHUNK - 3, Buffer.from('across'));
    await node.writeZeroes(7 * CHUNK + 100, 3 * CHUNK);
    await node.discard(30 * CHUNK, CHUNK);
    await node.write(LENGTH - 2, Buffer.from('zz'));
    expect(job.progress().totalBytes).toBeGreaterThan(LENGTH);
    await until(() => job.dirtyBytes === 0);
    await job.complete();
    await job.finished;
    await expectSame(made);
  });

  it('copies of any length to the byte', async () => {
    for (const lengthBytes of [0, 1, 511, 4097, CHUNK, 3 * CHUNK - 1]) {
      const made = await smallBench(lengthBytes);
      made.job.start();
      await ready(made.job);
      await made.job.complete();
      await made.job.finished;
      await expectSame(made);
    }
  });

  it('takes the filter out where others were put above it meanwhile', async () => {
    const made = await bench();
    made.job.start();
    await ready(made.job);
    const bitmap = new DirtyBitmap(LENGTH, CHUNK);
    const above = await made.node.insertFilter((below) => new DirtyTracking(below, { bitmap }));
    await made.node.write(0, Buffer.from('x'));
    await made.job.complete();
    await made.job.finished;
    expect(made.node.device).toBe(above);
    expect(above.below.device).toBe(made.target);
    await expectSame(made);
  });
});

async function smallBench(lengthBytes: number): Promise<Bench> {
  const old = new LivelyDevice(lengthBytes, 'old');
  const target = new LivelyDevice(lengthBytes, 'target');
  await old.memory.write(0, seededRandom(1).bytes(lengthBytes));
  const node = new BlockNode(old);
  const job = new MirrorJob({ source: node, target, sync: 'full', clock: REAL_CLOCK, bufferBytes: CHUNK });
  return { old, target, node, job, synced: [], statuses: [] };
}

describe('what is copied at the beginning', () => {
  it('full: zeros are written to a target that is not known to be zero', async () => {
    const made = await bench();
    made.job.start();
    await ready(made.job);
    expect(made.target.of('zero').map(({ lengthBytes }) => lengthBytes)).toEqual([5 * CHUNK]);
    await expectSame(made);
  });

  it('full: a target that is zero gets no zeros', async () => {
    const made = await bench({ targetIsZero: true });
    made.job.start();
    await ready(made.job);
    expect(made.target.of('zero')).toEqual([]);
    await expectSame(made);
    expect(made.job.progress().totalBytes).toBe(LENGTH - 5 * CHUNK);
  });

  it('top: only what is not backed, its zeros too', async () => {
    const made = await bench({ sync: 'top' });
    const status = made.old.blockStatus.bind(made.old);
    made.old.blockStatus = async (offsetBytes, lengthBytes) =>
      (await status(offsetBytes, lengthBytes)).map((extent) => ({
        ...extent,
        backed: extent.offsetBytes > 20 * CHUNK,
      }));
    made.job.start();
    await ready(made.job);
    const target = await made.target.bytes();
    const old = await made.old.bytes();
    expect(target.subarray(0, 20 * CHUNK).equals(old.subarray(0, 20 * CHUNK))).toBe(true);
    expect(target.subarray(21 * CHUNK).every((byte) => byte === 0xaa)).toBe(true);
    expect(made.target.of('zero').length).toBeGreaterThan(0);
  });

  it('none: only what is written from then on, whole chunks of it', async () => {
    const made = await bench({ sync: 'none' });
    made.job.start();
    await ready(made.job);
    expect(made.target.of('write')).toEqual([]);
    await made.node.write(3 * CHUNK + 1, Buffer.from('new'));
    await until(() => made.target.of('write').length > 0 && made.job.dirtyBytes === 0);
    expect(made.target.of('write')).toEqual([{ operation: 'write', offsetBytes: 3 * CHUNK, lengthBytes: CHUNK }]);
  });

  it('none: clusters of the target that are larger than a chunk are copied whole the first time', async () => {
    for (const copyMode of ['background', 'write-blocking'] as const) {
      const clusters = { targetClusterBytes: 4 * CHUNK, granularityBytes: CHUNK };
      const made = await bench({ sync: 'none', copyMode, ...clusters });
      made.job.start();
      await ready(made.job);
      await made.node.write(5 * CHUNK + 1, Buffer.from('new'));
      await until(() => made.target.of('write').length > 0 && made.target.underWay === 0);
      const whole = [4 * CHUNK, 4 * CHUNK];
      expect(covered(made.target)).toEqual([whole]);
      made.target.seen.length = 0;
      await made.node.write(6 * CHUNK, Buffer.alloc(CHUNK, 3));
      await until(() => made.target.of('write').length > 0 && made.target.underWay === 0);
      expect(covered(made.target)).toEqual([[6 * CHUNK, CHUNK]]);
      made.job.cancel();
      await made.job.finished;
    }
  });

  it('none: a target with a backing gets the changed chunk alone', async () => {
    const clusters = { targetClusterBytes: 4 * CHUNK, granularityBytes: CHUNK, targetHasBacking: true };
    const made = await bench({ sync: 'none', ...clusters });
    made.job.start();
    await ready(made.job);
    await made.node.write(5 * CHUNK + 1, Buffer.from('new'));
    await until(() => made.target.of('write').length > 0);
    expect(covered(made.target)).toEqual([[5 * CHUNK, CHUNK]]);
  });
});

/** The ranges written, joined: [offset, length]. */
function covered(device: LivelyDevice): number[][] {
  const ranges: number[][] = [];
  for (const { offsetBytes, lengthBytes } of device.of('write').sort((a, b) => a.offsetBytes - b.offsetBytes)) {
    const last = ranges.at(-1);
    if (last && last[0]! + last[1]! === offsetBytes) last[1]! += lengthBytes;
    else ranges.push([offsetBytes, lengthBytes]);
  }
  return ranges;
}

describe('operations', () => {
  it('join neighbouring chunks, and stay within the buffer and sixteen at a time', async () => {
    const made = await bench({ bufferBytes: 64 * CHUNK, lengthBytes: 1000 * CHUNK });
    made.target.random = seededRandom(3);
    made.job.start();
    await ready(made.job);
    const writes = made.target.of('write');
    expect(Math.max(...writes.map(({ lengthBytes }) => lengthBytes))).toBe(4 * CHUNK);
    expect(writes.length).toBeLessThan(300);
    expect(made.target.mostWritingBytes).toBeLessThanOrEqual(64 * CHUNK);
    expect(made.target.mostWritingBytes).toBeGreaterThan(16 * CHUNK);
    expect(made.target.mostUnderWay).toBeLessThanOrEqual(16);
    await expectSame(made);
  });

  it('of one chunk at a time go with the smallest buffer', async () => {
    const made = await bench({ bufferBytes: CHUNK });
    made.target.random = seededRandom(3);
    made.job.start();
    await ready(made.job);
    expect(made.target.mostWritingBytes).toBeLessThanOrEqual(CHUNK);
    await expectSame(made);
  });

  it('of clusters larger than the buffer go in pieces', async () => {
    const clusters = { targetClusterBytes: 8 * CHUNK, granularityBytes: CHUNK };
    const made = await bench({ bufferBytes: 2 * CHUNK, ...clusters });
    made.target.random = seededRandom(3);
    made.job.start();
    await ready(made.job);
    expect(made.target.mostWritingBytes).toBeLessThanOrEqual(2 * CHUNK);
    await expectSame(made);
  });

  it('keep off a chunk that is being copied, and take it again when it changed meanwhile', async () => {
    const made = await smallBench(CHUNK);
    let letGo = () => {};
    const held = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    made.target.hold = ({ operation }) => (operation === 'write' ? held : undefined);
    made.job.start();
    await until(() => made.target.underWay === 1);
    await made.node.write(0, Buffer.from('changed'));
    for (let turns = 0; turns < 20; turns++) await turn();
    expect(made.target.underWay).toBe(1);
    letGo();
    await ready(made.job);
    expect(made.target.of('write').length).toBe(2);
    await expectSame(made);
  });
});

describe('write-blocking', () => {
  it('acknowledges a write when both sides have it', async () => {
    const made = await bench({ copyMode: 'write-blocking' });
    const { node, job, target, old } = made;
    job.start();
    await ready(job);
    target.seen.length = 0;
    await node.write(CHUNK + 3, Buffer.from('both'));
    expect(target.of('write')).toEqual([{ operation: 'write', offsetBytes: CHUNK + 3, lengthBytes: 4 }]);
    expect(job.dirtyBytes).toBe(0);
    await node.writeZeroes(3 * CHUNK, CHUNK);
    await node.discard(5 * CHUNK, 100_000);
    expect(job.dirtyBytes).toBe(0);
    expect((await target.bytes()).equals(await old.bytes())).toBe(true);
  });

  it('copies what a discard left, whatever that is', async () => {
    const made = await bench({ copyMode: 'write-blocking' });
    made.job.start();
    await ready(made.job);
    made.old.memory.discard = async () => {};
    await made.node.discard(5 * CHUNK + 3, 200_000);
    await expectSame(made);
  });

  it('does not fail the guest when the target fails: the range stays dirty', async () => {
    const made = await bench({ copyMode: 'write-blocking', onTargetError: 'stop' });
    const { node, job, target } = made;
    job.start();
    await ready(job);
    target.fault = once(({ operation }) => operation === 'write', ioError('target'));
    await node.write(0, Buffer.from('kept'));
    expect(job.isSynced).toBe(false);
    await until(() => job.status === 'standby');
    await node.write(3 * CHUNK, Buffer.from('meanwhile'));
    expect(job.dirtyBytes).toBe(2 * CHUNK);
    job.resume();
    await until(() => job.isSynced);
    await expectSame(made);
  });

  it('becomes ready while the guest never rests', async () => {
    const made = await bench({ copyMode: 'write-blocking', bufferBytes: CHUNK });
    const { node, job } = made;
    let isOver = false;
    const guest = (async () => {
      for (let at = 0; !isOver; at = (at + 7919) % (LENGTH - 10_000)) {
        await Promise.all([0, 1, 2].map((n) => node.write(at + n * 3000, Buffer.alloc(3000, at % 251))));
      }
    })();
    made.target.random = seededRandom(5);
    job.start();
    await ready(job);
    await job.complete();
    await job.finished;
    isOver = true;
    await guest;
    expect(node.device).toBe(made.target);
  });
});

describe('an error', () => {
  it.each<[string, ErrorAction]>([
    ['source', 'report'],
    ['target', 'report'],
  ])('of the %s fails the job under %s', async (side) => {
    const made = await bench();
    const device = side === 'source' ? made.old : made.target;
    const operation = side === 'source' ? 'read' : 'write';
    device.fault = once((seen) => seen.operation === operation && seen.offsetBytes > 3 * CHUNK, ioError(side));
    made.job.start();
    await expect(made.job.finished).rejects.toMatchObject({ code: 'io-error', object: side });
    expect(made.node.device).toBe(made.old);
    expect(made.target.underWay + made.old.underWay).toBe(0);
  });

  it('under stop holds the job; resumed, it tries again', async () => {
    const made = await bench({ onSourceError: 'stop' });
    made.old.fault = once((seen) => seen.operation === 'read' && seen.offsetBytes > 3 * CHUNK, ioError('old'));
    made.job.start();
    await until(() => made.job.status === 'paused');
    expect(made.job.ioStatus).toBe('failed');
    made.job.resume();
    expect(made.job.ioStatus).toBe('ok');
    await ready(made.job);
    await expectSame(made);
  });

  it('under enospc stops for a full target only', async () => {
    const made = await bench({ onTargetError: 'enospc' });
    made.target.fault = once(({ operation }) => operation === 'write', noSpace('target'));
    made.job.start();
    await until(() => made.job.status === 'paused');
    expect(made.job.ioStatus).toBe('nospace');
    made.target.fault = once(({ operation }) => operation === 'write', ioError('target'));
    made.job.resume();
    await expect(made.job.finished).rejects.toMatchObject({ code: 'io-error' });
  });

  it('under ignore is tried again until it comes off', async () => {
    const made = await bench({ onTargetError: 'ignore' });
    let left = 3;
    made.target.fault = ({ operation }) => (operation === 'write' && left-- > 0 ? ioError('target') : undefined);
    made.job.start();
    await ready(made.job);
    await expectSame(made);
  });

  it('halfway through a write, or of one range of the source, leaves nothing behind', async () => {
    const made = await bench();
    const source = new BlockNode(made.old);
    const targetNode = new BlockNode(made.target);
    const range = { offsetBytes: 4 * CHUNK + 5, lengthBytes: 1 };
    const reading = await source.insertFilter((below) => new FaultFilter(below));
    const writing = await targetNode.insertFilter((below) => new FaultFilter(below));
    const unreadable = reading.add({ operation: 'read', range, times: 2, effect: { kind: 'error' } });
    const torn = writing.add({ operation: 'write', after: 3, times: 4, effect: { kind: 'error', when: 'midway' } });
    const late = writing.add({ operation: 'write-zeroes', times: 1, effect: { kind: 'error', when: 'after' } });
    const job = new MirrorJob({
      ...{ source, target: targetNode, sync: 'full', clock: REAL_CLOCK, hasIoStatus: true, bufferBytes: 4 * CHUNK },
      ...{ onSourceError: 'stop', onTargetError: 'stop' },
    });
    job.start();
    while (job.status !== 'ready') {
      if (job.status === 'paused') job.resume();
      if (job.status === 'concluded') await job.finished;
      await turn();
    }
    expect([unreadable.hits, torn.hits, late.hits]).toEqual([2, 4, 1]);
    await job.complete();
    await job.finished;
    expect(source.device).toBe(targetNode);
    await expectSame(made);
  });

  it('takes back that the target has caught up, until it has again', async () => {
    const made = await bench({ onTargetError: 'stop' });
    const { job, node, target } = made;
    job.start();
    await ready(job);
    target.fault = once(({ operation }) => operation === 'write', ioError('target'));
    await node.write(0, Buffer.from('x'));
    await until(() => job.status === 'standby');
    expect(job.isSynced).toBe(false);
    await expect(job.complete()).rejects.toMatchObject({ code: 'job-not-ready' });
    job.resume();
    await expect(job.complete()).rejects.toMatchObject({ code: 'job-not-ready' });
    await until(() => job.isSynced);
    expect(made.synced).toEqual([true, false, true]);
    await job.complete();
    await job.finished;
    await expectSame(made);
  });

  it('while the guest is held back lets it go on', async () => {
    const made = await bench({ onTargetError: 'stop' });
    const { job, node, target } = made;
    job.start();
    await ready(job);
    job.pause();
    await node.write(0, Buffer.from('x'));
    target.fault = once(({ operation }) => operation === 'write', ioError('target'));
    job.resume();
    await job.complete();
    await until(() => job.status === 'standby');
    await node.write(CHUNK, Buffer.from('not held'));
    job.resume();
    await job.finished;
    expect(node.device).toBe(target);
    await expectSame(made);
  });

  it('under stop or enospc needs someone who looks at the I/O status', async () => {
    for (const action of ['stop', 'enospc'] as const) {
      for (const side of ['onSourceError', 'onTargetError'] as const) {
        await expect(bench({ hasIoStatus: false, [side]: action })).rejects.toMatchObject({ code: 'iostatus-off' });
      }
    }
  });
});

describe('a mirror refuses', () => {
  it('what makes no sense', async () => {
    await expect(bench({ granularityBytes: 3000 })).rejects.toMatchObject({ code: 'bad-granularity' });
    await expect(bench({ bufferBytes: 1000 })).rejects.toMatchObject({ code: 'bad-buffer' });
    await expect(bench({ targetClusterBytes: 3 * CHUNK })).rejects.toMatchObject({ code: 'bad-cluster' });
    await expect(bench({ target: new MemoryDevice(5) })).rejects.toMatchObject({ code: 'length-differs' });
    const readOnly = new MemoryDevice(LENGTH, { readOnly: true });
    await expect(bench({ target: readOnly })).rejects.toMatchObject({ code: 'read-only' });
  });

  it('a target that another job writes to', async () => {
    const first = await bench();
    const second = await bench({ target: first.target });
    first.job.start();
    await ready(first.job);
    second.job.start();
    await expect(second.job.finished).rejects.toMatchObject({ code: 'device-claimed', exitStatus: 5 });
    first.job.cancel();
    await first.job.finished;
  });
});

describe('mirrors in a transaction', () => {
  it('switch together', async () => {
    const [a, b] = [await bench(), await bench()];
    const transaction = new JobTransaction();
    transaction.add(a.job);
    transaction.add(b.job);
    transaction.start();
    await Promise.all([ready(a.job), ready(b.job)]);
    await a.job.complete();
    await until(() => a.job.status === 'waiting');
    expect(a.node.device).not.toBe(a.target);
    await b.job.complete();
    await transaction.finished;
    expect([a.node.device, b.node.device]).toEqual([a.target, b.target]);
  });

  it('do not switch if one fails, and their guests go on', async () => {
    const [a, b] = [await bench(), await bench()];
    const transaction = new JobTransaction({
      finish: async () => {
        throw ioError('elsewhere');
      },
    });
    transaction.add(a.job);
    transaction.add(b.job);
    transaction.start();
    await Promise.all([ready(a.job), ready(b.job)]);
    await Promise.all([a.job.complete(), b.job.complete()]);
    await expect(transaction.finished).rejects.toMatchObject({ code: 'io-error' });
    for (const { node, old } of [a, b]) {
      expect(node.device).toBe(old);
      await node.write(0, Buffer.from('x'));
    }
  });
});
