// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { AllocTrack } from '#vmar/src/block/filters/alloc-track.js';
import { readAll } from '../device-contract.js';
import { SlowDevice, settle } from '../slow-device.js';
import { granule, isPending, makeGate, read, STALE, setUp, UNIT } from './alloc-track-setup.js';

describe('a fill', () => {
  it('copies what is missing, whole granules, and reads and writes no zeros into a zero target', async () => {
    const { filter, target, backing } = setUp(8, { targetIsZero: true });
    await filter.write(UNIT, granule(9));
    expect(await filter.fill(1, 3 * UNIT)).toEqual({ filledBytes: 3 * UNIT });
    expect(await filter.fill(0, filter.lengthBytes)).toEqual({ filledBytes: 4 * UNIT });
    expect(await filter.fill(0, filter.lengthBytes)).toEqual({ filledBytes: 0 });
    expect([filter.isComplete, target.zeroWrites, backing.reads, target.writes]).toEqual([true, 0, 3, 4]);
    const expected = Buffer.from(backing.content).fill(9, UNIT, 2 * UNIT);
    expect(Buffer.from(target.content).equals(expected)).toBe(true);
  });

  it('writes zeros where the target is not known to be zero', async () => {
    const { filter, target, backing } = setUp(8);
    await filter.fill(0, filter.lengthBytes);
    expect(target.zeroWrites).toBe(2);
    expect(Buffer.from(target.content).equals(Buffer.from(backing.content))).toBe(true);
  });

  it('handles holes that end within granules, a short last granule, and a backing that is shorter', async () => {
    for (const length of [10 * UNIT + 17, 10 * UNIT, 3 * UNIT + 1]) {
      const backing = new SlowDevice(Buffer.alloc(Math.min(length, 6 * UNIT + 5)), undefined, 100);
      for (let at = 0; at < backing.content.length; at += 777) backing.content.fill(7, at, at + (at % 300));
      const target = new SlowDevice(Buffer.alloc(length, STALE));
      const filter = new AllocTrack(new BlockNode(target), { backing, targetIsZero: false });
      expect(await filter.fill(0, length)).toEqual({ filledBytes: length });
      const expected = Buffer.alloc(length);
      expected.set(backing.content);
      expect(Buffer.from(target.content).equals(expected)).toBe(true);
    }
  });

  it('never overwrites what a guest wrote while the backing was read', async () => {
    const { filter, backingFaults } = setUp(4);
    const gate = makeGate();
    backingFaults.add({ operation: 'read', times: 1, effect: { kind: 'hold', until: gate.opened } });
    const fill = filter.fill(0, 3 * UNIT);
    await settle();
    // It need not wait for the backing.
    await filter.write(UNIT, granule(9));
    gate.open();
    expect(await fill).toEqual({ filledBytes: 2 * UNIT });
    expect((await read(filter, 0, 3 * UNIT)).equals(Buffer.concat([granule(1), granule(9), granule(3)]))).toBe(true);
  });

  it('keeps what it copied when the backing fails, marks nothing that it could not read, and can go on', async () => {
    const { filter, backingFaults } = setUp(1024);
    const range = { offsetBytes: 600 * UNIT, lengthBytes: UNIT };
    const fault = backingFaults.add({ operation: 'read', range, effect: { kind: 'error' } });
    await expect(filter.fill(0, filter.lengthBytes)).rejects.toMatchObject({ code: 'injected-fault' });
    expect(filter.held.get(0)).toBe(true);
    expect(filter.held.get(600 * UNIT)).toBe(false);
    expect(filter.held.get(1023 * UNIT)).toBe(false);
    fault.remove();
    await filter.fill(0, filter.lengthBytes);
    expect(filter.isComplete).toBe(true);
  });

  it('fails when the target cannot be written, and marks nothing', async () => {
    const { filter, targetFaults } = setUp(4);
    targetFaults.add({ operation: ['write', 'write-zeroes'], effect: { kind: 'error', when: 'midway' } });
    await expect(filter.fill(0, UNIT)).rejects.toMatchObject({ code: 'injected-fault' });
    await expect(filter.write(0, granule(9))).rejects.toMatchObject({ code: 'injected-fault' });
    expect(filter.held.isClean).toBe(true);
    expect((await read(filter, 0, UNIT)).equals(granule(1))).toBe(true);
  });
});

describe('copy-on-read', () => {
  it('puts what a read took into the target, and the backing is not read again', async () => {
    const { filter, backing, target } = setUp(8, { copyOnRead: true, targetIsZero: true });
    expect((await read(filter, UNIT + 5, 10)).equals(Buffer.alloc(10, 2))).toBe(true);
    await read(filter, 3 * UNIT, UNIT);
    await settle();
    expect([filter.held.dirtyBytes, target.writes, target.zeroWrites]).toEqual([2 * UNIT, 1, 0]);
    const before = backing.reads;
    expect((await read(filter, UNIT, UNIT)).equals(granule(2))).toBe(true);
    expect(backing.reads).toBe(before);
  });

  it('does not keep the reader waiting, nor fail it', async () => {
    const { filter, targetFaults } = setUp(8, { copyOnRead: true });
    const gate = makeGate();
    targetFaults.add({ operation: 'write', times: 1, effect: { kind: 'hold', until: gate.opened } });
    expect((await read(filter, 0, UNIT)).equals(granule(1))).toBe(true);
    const closed = filter.close();
    expect(await isPending(closed)).toBe(true);
    gate.open();
    await closed;
    const other = setUp(8, { copyOnRead: true });
    other.targetFaults.add({ operation: 'write', effect: { kind: 'error' } });
    expect((await read(other.filter, 0, UNIT)).equals(granule(1))).toBe(true);
    await settle();
    expect(other.filter.held.isClean).toBe(true);
  });

  it('never overwrites a guest', async () => {
    const { filter, backingFaults } = setUp(8, { copyOnRead: true });
    const gate = makeGate();
    backingFaults.add({ operation: 'read', times: 1, effect: { kind: 'hold', until: gate.opened } });
    const slow = read(filter, 0, UNIT);
    await settle();
    await filter.write(0, granule(9));
    gate.open();
    expect((await slow).equals(granule(9))).toBe(true);
    await settle();
    expect((await read(filter, 0, UNIT)).equals(granule(9))).toBe(true);
  });
});

describe('the end of a restore', () => {
  it('lets go of the backing when it is complete, after the last read of it', async () => {
    const { filter, backingFaults } = setUp(4);
    await expect(filter.detachBacking()).rejects.toMatchObject({ code: 'not-complete' });
    const gate = makeGate();
    backingFaults.add({ operation: 'read', times: 1, effect: { kind: 'hold', until: gate.opened } });
    const slow = read(filter, 0, UNIT);
    await settle();
    await filter.fill(0, filter.lengthBytes);
    const detached = filter.detachBacking();
    expect(await isPending(detached)).toBe(true);
    gate.open();
    await Promise.all([slow, detached]);
    backingFaults.add({ effect: { kind: 'error' } });
    await readAll(filter);
    expect(await filter.blockStatus(0, UNIT)).toEqual([{ offsetBytes: 0, lengthBytes: UNIT, state: 'data' }]);
  });

  it('takes the filter out of the graph, and not before', async () => {
    const { target, backing } = setUp(4);
    const node = new BlockNode(target);
    const filter = await node.insertFilter((below) => new AllocTrack(below, { backing, targetIsZero: false }));
    await expect(node.removeFilter(filter)).rejects.toMatchObject({ code: 'not-complete' });
    await filter.fill(0, filter.lengthBytes);
    await filter.detachBacking();
    await node.removeFilter(filter);
    expect(node.device).toBe(target);
    expect((await readAll(node)).equals(Buffer.from(backing.content))).toBe(true);
  });
});
