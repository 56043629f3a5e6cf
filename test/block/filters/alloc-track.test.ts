// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { AllocTrack } from '#vmar/src/block/filters/alloc-track.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { seededRandom } from '../../base/random.js';
import { deviceContract, readAll } from '../device-contract.js';
import { SlowDevice, settle } from '../slow-device.js';
import { granule, isPending, makeGate, read, type Setup, STALE, setUp, UNIT } from './alloc-track-setup.js';

/** A target full of old content that must never show. */
async function stale(lengthBytes: number): Promise<BlockNode> {
  const target = new MemoryDevice(lengthBytes, { name: 'target' });
  await target.write(0, Buffer.alloc(lengthBytes, 0x55));
  return new BlockNode(target);
}

deviceContract('AllocTrack over an empty backing', async (lengthBytes) => {
  const backing = new MemoryDevice(lengthBytes);
  return new AllocTrack(await stale(lengthBytes), { backing, targetIsZero: false });
});

deviceContract('AllocTrack with no backing', async (lengthBytes) => {
  return new AllocTrack(await stale(lengthBytes), { backing: undefined, targetIsZero: false, granularityBytes: 512 });
});

deviceContract('AllocTrack that copies on read', async (lengthBytes) => {
  const backing = new MemoryDevice(lengthBytes);
  const below = new BlockNode(new MemoryDevice(lengthBytes));
  return new AllocTrack(below, { backing, targetIsZero: true, copyOnRead: true });
});

describe('a read', () => {
  it('that spans held, backed and unbacked ranges gives each its own', async () => {
    const target = new SlowDevice(Buffer.alloc(8 * UNIT, STALE));
    const backing = new MemoryDevice(5 * UNIT + 100);
    await backing.write(0, Buffer.alloc(5 * UNIT + 100, 7));
    const filter = new AllocTrack(new BlockNode(target), { backing, targetIsZero: false });
    await filter.write(UNIT, granule(1));
    await filter.write(6 * UNIT, granule(2));
    const expected = Buffer.concat([
      ...[granule(7), granule(1), granule(7), granule(7), granule(7)],
      ...[Buffer.alloc(100, 7), Buffer.alloc(UNIT - 100), granule(2), granule(0)],
    ]);
    expect((await readAll(filter)).equals(expected)).toBe(true);
    for (let at = 0; at < expected.length; at += 1000) {
      expect(
        (await read(filter, at, Math.min(9000, expected.length - at))).equals(expected.subarray(at, at + 9000)),
      ).toBe(true);
    }
  });

  it('of what is held goes straight to the target', async () => {
    const { filter, backing, target } = setUp(4);
    await filter.fill(0, filter.lengthBytes);
    const before = backing.reads;
    await readAll(filter);
    expect([backing.reads, target.reads]).toEqual([before, 1]);
    expect(filter.tryRead(0, Buffer.alloc(10))).toBe(false);
  });

  it('that was under way when a write was acknowledged is answered with the new data', async () => {
    const { filter, backingFaults } = setUp(4);
    const gate = makeGate();
    backingFaults.add({ operation: 'read', times: 1, effect: { kind: 'hold', until: gate.opened } });
    const slow = read(filter, 0, 4 * UNIT);
    await settle();
    await filter.write(UNIT, granule(9));
    expect((await read(filter, UNIT, UNIT)).equals(granule(9))).toBe(true);
    gate.open();
    const expected = Buffer.concat([granule(1), granule(9), granule(3), granule(0)]);
    expect((await slow).equals(expected)).toBe(true);
  });

  it('fails alone when the backing cannot be read, and not where the target holds the range by then', async () => {
    const { filter, backingFaults } = setUp(8);
    const range = { offsetBytes: 2 * UNIT, lengthBytes: UNIT };
    backingFaults.add({ operation: 'read', range, effect: { kind: 'error' } });
    await expect(read(filter, 0, 3 * UNIT)).rejects.toMatchObject({ code: 'injected-fault' });
    await expect(read(filter, 2 * UNIT + 5, 1)).rejects.toMatchObject({ code: 'injected-fault' });
    expect((await read(filter, UNIT, UNIT)).equals(granule(2))).toBe(true);
    expect(filter.held.isClean).toBe(true);
    await filter.write(2 * UNIT, granule(9));
    expect((await read(filter, UNIT, 3 * UNIT)).equals(Buffer.concat([granule(2), granule(9), granule(0)]))).toBe(true);
  });
});

describe('a small write', () => {
  it('at every alignment and of every length keeps the rest of its granules', async () => {
    const unit = 16;
    for (let from = 0; from < 3 * unit; from++) {
      for (let to = from + 1; to <= 3 * unit + 3; to++) {
        const target = new SlowDevice(Buffer.alloc(3 * unit + 3, STALE));
        const backing = new SlowDevice(Buffer.from(seededRandom(from * 100 + to).bytes(3 * unit + 3)));
        const filter = new AllocTrack(new BlockNode(target), { backing, targetIsZero: false, granularityBytes: unit });
        const bytes = Buffer.alloc(to - from, 0xaa);
        await filter.write(from, bytes);
        const expected = Buffer.from(backing.content);
        expected.set(bytes, from);
        expect((await readAll(filter)).equals(expected)).toBe(true);
        const isWhole = from % unit === 0 && (to % unit === 0 || to === 3 * unit + 3);
        expect(target.writes).toBe(1);
        if (isWhole) expect(filter.held.dirtyBytes).toBe(to - from);
        // The rest was read for the write, and once more what is not held by now.
        await filter.fill(0, filter.lengthBytes);
        expect(Buffer.from(target.content).equals(expected)).toBe(true);
      }
    }
  });

  it('of whole granules never reads the backing', async () => {
    const { filter, backing } = setUp(8);
    expect(filter.granularityBytes).toBe(4096);
    expect(filter.alignmentBytes).toBe(4096);
    await filter.write(UNIT, granule(9));
    await filter.write(3 * UNIT, Buffer.alloc(3 * UNIT, 9));
    await filter.writeZeroes(7 * UNIT, UNIT);
    await filter.discard(6 * UNIT, UNIT);
    expect([backing.reads, filter.held.dirtyBytes]).toEqual([0, 6 * UNIT]);
  });

  it('fails where the rest cannot be read, and marks nothing', async () => {
    const { filter, backingFaults, target } = setUp(8);
    const fault = backingFaults.add({ operation: 'read', effect: { kind: 'error' } });
    await expect(filter.write(UNIT + 1, Buffer.alloc(10))).rejects.toMatchObject({ code: 'injected-fault' });
    await expect(filter.writeZeroes(UNIT + 1, 10)).rejects.toMatchObject({ code: 'injected-fault' });
    await expect(filter.discard(UNIT + 1, 10)).rejects.toMatchObject({ code: 'injected-fault' });
    expect([filter.held.isClean, target.writes]).toEqual([true, 0]);
    fault.remove();
    expect((await read(filter, UNIT, UNIT)).equals(granule(2))).toBe(true);
  });

  it('goes through when its granule became held while the rest could not be read', async () => {
    const { filter, backingFaults } = setUp(8);
    const gate = makeGate();
    backingFaults.add({ operation: 'read', times: 1, effect: { kind: 'hold', until: gate.opened } });
    backingFaults.add({ operation: 'read', times: 1, effect: { kind: 'error' } });
    const small = filter.write(UNIT, Buffer.from('abc'));
    await settle();
    await filter.write(UNIT, granule(9));
    gate.open();
    await small;
    const expected = granule(9);
    expected.write('abc');
    expect((await read(filter, UNIT, UNIT)).equals(expected)).toBe(true);
  });

  it.each([1, 2])('of many at once into one granule all arrive, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const backing = new SlowDevice(Buffer.alloc(UNIT, 3), random);
    const filter = new AllocTrack(new BlockNode(new SlowDevice(Buffer.alloc(UNIT), random)), {
      backing,
      targetIsZero: true,
    });
    await Promise.all(Array.from({ length: 64 }, (_, at) => filter.write(at * 64, Buffer.alloc(32, at))));
    const expected = Buffer.alloc(UNIT, 3);
    for (let at = 0; at < 64; at++) expected.fill(at, at * 64, at * 64 + 32);
    expect((await readAll(filter)).equals(expected)).toBe(true);
  });
});

describe('a discard', () => {
  it('of what is not held makes it zeros: neither old content nor the backing shows through', async () => {
    const { filter, target } = setUp(4);
    await filter.discard(100, 2 * UNIT);
    const expected = Buffer.concat([granule(1), granule(2), granule(3), granule(0)]).fill(0, 100, 100 + 2 * UNIT);
    expect((await readAll(filter)).equals(expected)).toBe(true);
    expect([filter.held.dirtyBytes, target.discards]).toEqual([3 * UNIT, 0]);
  });

  it('of what is held goes to the target, of both is split', async () => {
    const { filter, target } = setUp(4);
    await filter.write(UNIT, granule(9));
    await filter.discard(UNIT, UNIT);
    expect(target.discards).toBe(1);
    await filter.discard(0, 3 * UNIT);
    expect([target.discards, filter.held.dirtyBytes]).toEqual([2, 3 * UNIT]);
    expect((await read(filter, 0, UNIT)).equals(granule(0))).toBe(true);
    expect((await read(filter, 2 * UNIT, UNIT)).equals(granule(0))).toBe(true);
  });

  it('of what a zero target does not hold writes nothing', async () => {
    const { filter, target } = setUp(4, { targetIsZero: true });
    await filter.discard(0, 2 * UNIT);
    await filter.writeZeroes(2 * UNIT, UNIT);
    expect([target.zeroWrites, target.writes, target.discards]).toEqual([0, 0, 0]);
    expect((await read(filter, 0, 3 * UNIT)).equals(Buffer.alloc(3 * UNIT))).toBe(true);
    await filter.writeZeroes(3 * UNIT, UNIT, { keepAllocated: true });
    expect(target.zeroWrites).toBe(1);
  });
});

describe('onHeld', () => {
  it('is called when the data is there, and neither the writer nor readers know of it before it has resolved', async () => {
    const gate = makeGate();
    const calls: string[] = [];
    const setup: Setup = setUp(4, {
      onHeld: (offset, length) => {
        calls.push(`${offset}+${length}: ${setup.target.content[offset]}`);
        return gate.opened;
      },
    });
    const { filter } = setup;
    const write = filter.write(UNIT + 10, Buffer.alloc(UNIT, 9));
    expect(await isPending(write)).toBe(true);
    expect(calls).toEqual([`${UNIT}+${2 * UNIT}: 2`]);
    expect((await read(filter, UNIT, UNIT)).equals(granule(2))).toBe(true);
    expect(filter.held.isClean).toBe(true);
    gate.open();
    await write;
    expect((await read(filter, UNIT + 10, UNIT)).equals(granule(9))).toBe(true);
    await filter.write(UNIT, granule(8));
    expect(calls.length).toBe(1);
  });

  it('that rejects fails the request, and what was written there never shows', async () => {
    let fails = true;
    const onHeld = async () => {
      if (fails) throw new Error('journal full');
    };
    const { filter, target } = setUp(4, { targetIsZero: true, onHeld });
    await expect(filter.write(3 * UNIT, granule(9))).rejects.toThrow('journal full');
    await expect(filter.fill(0, UNIT)).rejects.toThrow('journal full');
    expect(filter.held.isClean).toBe(true);
    expect((await read(filter, 3 * UNIT, UNIT)).equals(granule(0))).toBe(true);
    fails = false;
    // The backing has zeros there, the target no longer has: they are written.
    await filter.fill(0, filter.lengthBytes);
    expect(target.zeroWrites).toBe(1);
    expect((await read(filter, 3 * UNIT, UNIT)).equals(granule(0))).toBe(true);
  });

  it('follows the flush of the target as onFlushed', async () => {
    const log: string[] = [];
    const { filter, targetFaults } = setUp(1, { onFlushed: async () => void log.push('flushed') });
    await filter.flush();
    expect(log).toEqual(['flushed']);
    targetFaults.add({ operation: 'flush', effect: { kind: 'error' } });
    await expect(filter.flush()).rejects.toMatchObject({ code: 'injected-fault' });
    expect(log).toEqual(['flushed']);
  });
});

describe('block status', () => {
  it('says what is backed, and what is the target’s own', async () => {
    const target = new SlowDevice(Buffer.alloc(8 * UNIT, STALE));
    const backing = new MemoryDevice(6 * UNIT);
    await backing.write(2 * UNIT, granule(7));
    const filter = new AllocTrack(new BlockNode(target), { backing, targetIsZero: false });
    await filter.write(4 * UNIT, granule(9));
    await filter.writeZeroes(5 * UNIT, UNIT);
    expect(await filter.blockStatus(UNIT, 7 * UNIT)).toEqual([
      { offsetBytes: UNIT, lengthBytes: UNIT, state: 'zero', backed: true },
      { offsetBytes: 2 * UNIT, lengthBytes: UNIT, state: 'data', backed: true },
      { offsetBytes: 3 * UNIT, lengthBytes: UNIT, state: 'zero', backed: true },
      { offsetBytes: 4 * UNIT, lengthBytes: UNIT, state: 'data' },
      { offsetBytes: 5 * UNIT, lengthBytes: UNIT, state: 'zero' },
      { offsetBytes: 6 * UNIT, lengthBytes: 2 * UNIT, state: 'zero', backed: true },
    ]);
    const alone = new AllocTrack(new BlockNode(target), { backing: undefined, targetIsZero: false });
    expect(await alone.blockStatus(0, 100)).toEqual([{ offsetBytes: 0, lengthBytes: 100, state: 'zero' }]);
  });
});

describe('what does not fit', () => {
  it('is refused: a longer backing, a bitmap of another shape', () => {
    const below = new BlockNode(new MemoryDevice(8192, { name: 'small' }));
    const targetIsZero = true;
    expect(() => new AllocTrack(below, { backing: new MemoryDevice(8193), targetIsZero })).toThrow(
      expect.objectContaining({ code: 'target-too-small', object: 'small' }),
    );
    const held = new DirtyBitmap(8193, 4096);
    expect(() => new AllocTrack(below, { backing: undefined, targetIsZero, held })).toThrow(/does not fit/);
    expect(
      () =>
        new AllocTrack(below, {
          backing: undefined,
          targetIsZero,
          held: new DirtyBitmap(8192, 512),
          granularityBytes: 4096,
        }),
    ).toThrow(/does not fit/);
  });
});
