// SPDX-License-Identifier: MIT
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ManualClock } from '#vmar/src/base/clock.js';
import type { FailedError } from '#vmar/src/base/errors.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import {
  CopyBeforeWrite,
  type CopyBeforeWriteOptions,
  type CopyFailurePolicy,
} from '#vmar/src/block/filters/copy-before-write.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { deviceContract, readAll } from '../device-contract.js';

const settle = async () => {
  for (let turns = 0; turns < 5; turns++) await turn();
};

deviceContract('CopyBeforeWrite', async (lengthBytes) => {
  const node = new BlockNode(new MemoryDevice(lengthBytes));
  await node.insertFilter(
    (below) => new CopyBeforeWrite(below, { policy: 'break-snapshot', copyBefore: () => turn() }),
  );
  return node;
});

interface Copy {
  readonly range: string;
  readonly done: () => void;
  readonly fail: (error: Error) => void;
}

/** A filter over ones, whose copies the test settles. */
async function setUp(options: Partial<CopyBeforeWriteOptions> = {}) {
  const disk = new MemoryDevice(100_000, { name: 'disk' });
  await disk.write(0, Buffer.alloc(100_000, 1));
  const node = new BlockNode(disk);
  const copies: Copy[] = [];
  const broken: FailedError[] = [];
  const filter = await node.insertFilter(
    (below) =>
      new CopyBeforeWrite(below, {
        policy: 'break-guest-write',
        copyBefore: (offset, length) =>
          new Promise((resolve, reject) => copies.push({ range: `${offset}+${length}`, done: resolve, fail: reject })),
        onBroken: (error) => broken.push(error),
        ...options,
      }),
  );
  return { disk, node, filter, copies, broken };
}

const CHANGES: [string, (node: BlockNode) => Promise<void>, number][] = [
  ['write', (node) => node.write(1000, Buffer.alloc(500, 2)), 2],
  ['writeZeroes', (node) => node.writeZeroes(1000, 500), 0],
  ['discard', (node) => node.discard(1000, 500), 0],
];

describe.each(CHANGES)('CopyBeforeWrite, %s,', (_name, change, after) => {
  const content = async (disk: MemoryDevice) => (await readAll(disk))[1200];

  it('waits for the copy', async () => {
    const { disk, node, copies } = await setUp();
    const changing = change(node);
    await settle();
    expect(copies.map(({ range }) => range)).toEqual(['1000+500']);
    expect(await content(disk)).toBe(1);
    copies[0]!.done();
    await changing;
    expect(await content(disk)).toBe(after);
  });

  it('goes on at once where nothing is to be copied', async () => {
    const { disk, node } = await setUp({ copyBefore: () => undefined });
    await change(node);
    expect(await content(disk)).toBe(after);
  });

  it.each(['rejects', 'takes too long'])(
    'is refused, and changes nothing, when the copy %s and the guest gives way',
    async (how) => {
      const clock = new ManualClock();
      const { disk, node, filter, copies, broken } = await setUp({ timeout: { millis: 3000, clock } });
      const changing = change(node);
      const outcome = changing.then(
        () => 'done',
        (error: { code?: string; message: string }) => error.code ?? error.message,
      );
      await settle();
      if (how === 'rejects') copies[0]!.fail(new Error('no copy'));
      else clock.advance(3000);
      expect(await outcome).toBe(how === 'rejects' ? 'no copy' : 'copy-timeout');
      expect([await content(disk), filter.isBroken, broken.length, clock.sleeping]).toEqual([1, false, 0, 0]);
      copies[0]!.fail(new Error('late'));
      // The next one is tried as if nothing had been.
      const again = change(node);
      await settle();
      copies[1]!.done();
      await again;
      expect(await content(disk)).toBe(after);
    },
  );

  it.each(['rejects', 'takes too long'])('goes on when the copy %s and the snapshot gives way', async (how) => {
    const clock = new ManualClock();
    const seen: unknown[] = [];
    const { disk, node, filter, copies, broken } = await setUp({
      policy: 'break-snapshot',
      timeout: { millis: 3000, clock },
      onBroken: (error) => {
        seen.push(filter.isBroken);
        broken.push(error);
      },
    });
    const changing = change(node);
    const other = node.write(90_000, Buffer.alloc(10));
    await settle();
    expect(copies.length).toBe(2);
    const cause = new Error('no copy');
    if (how === 'rejects') copies[0]!.fail(cause);
    else clock.advance(3000);
    await Promise.all([changing, other]);
    expect([await content(disk), filter.isBroken, seen, clock.sleeping]).toEqual([after, true, [true], 0]);
    expect(broken[0]).toMatchObject({ code: 'snapshot-broken', object: 'disk', offsetBytes: 1000 });
    expect(broken[0]!.cause).toEqual(how === 'rejects' ? cause : expect.objectContaining({ code: 'copy-timeout' }));
    copies[1]!.fail(new Error('late'));
    await change(node);
    expect([copies.length, broken.length]).toEqual([2, 1]);
  });

  it('is let go when the filter is turned off, whatever the copy does', async () => {
    for (const policy of ['break-guest-write', 'break-snapshot'] as CopyFailurePolicy[]) {
      const { disk, node, filter, copies, broken } = await setUp({ policy });
      const changing = change(node);
      await settle();
      filter.turnOff();
      await changing;
      expect(await content(disk)).toBe(after);
      copies[0]!.fail(new Error('late'));
      await change(node);
      expect([copies.length, broken.length, filter.isBroken]).toEqual([1, 0, false]);
    }
  });

  it('waits only for what the bitmap names', async () => {
    const bitmap = new DirtyBitmap(100_000, 64);
    bitmap.set(1100, 1);
    bitmap.set(1300, 100);
    bitmap.set(1600, 100);
    const { disk, node, copies } = await setUp({ bitmap });
    const changing = change(node);
    await settle();
    expect(copies.map(({ range }) => range)).toEqual(['1088+64']);
    copies[0]!.done();
    await settle();
    expect(copies.map(({ range }) => range)).toEqual(['1088+64', '1280+128']);
    expect(await content(disk)).toBe(1);
    copies[1]!.done();
    await changing;
    await node.write(0, Buffer.alloc(1000));
    await node.writeZeroes(2000, 10);
    await node.discard(2000, 10);
    expect(copies.length).toBe(2);
  });
});

describe('CopyBeforeWrite', () => {
  it('does not copy for reads, flushes, status, or empty writes', async () => {
    const { node, copies } = await setUp();
    await readAll(node);
    await node.flush();
    await node.blockStatus(0, 10);
    await node.write(5, new Uint8Array(0));
    await node.discard(5, 0);
    expect(copies).toEqual([]);
  });

  it('refuses what the device refuses, before any copy', async () => {
    const { node, copies } = await setUp();
    await expect(node.write(99_999, Buffer.alloc(2))).rejects.toMatchObject({ code: 'out-of-range' });
    const readOnly = new BlockNode(new MemoryDevice(10, { readOnly: true }));
    const copyBefore = () => Promise.reject(new Error('copied'));
    await readOnly.insertFilter((below) => new CopyBeforeWrite(below, { policy: 'break-snapshot', copyBefore }));
    await expect(readOnly.writeZeroes(0, 5)).rejects.toMatchObject({ code: 'read-only' });
    expect(copies).toEqual([]);
  });

  it('a copy in time wakes no clock', async () => {
    const clock = new ManualClock();
    const { node, copies } = await setUp({ timeout: { millis: 3000, clock } });
    const writing = node.write(0, Buffer.alloc(10));
    await settle();
    expect(clock.sleeping).toBe(1);
    copies[0]!.done();
    await writing;
    expect(clock.sleeping).toBe(0);
  });
});
