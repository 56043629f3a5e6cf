// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import type { FilterDevice } from '#vmar/src/block/block-node.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { FaultFilter } from '#vmar/src/block/filters/fault.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { type Random, seededRandom } from '../base/random.js';
import { deviceContract, readAll } from './device-contract.js';
import { PassFilter } from './pass-filter.js';

deviceContract('BlockNode', async (lengthBytes) => new BlockNode(new MemoryDevice(lengthBytes)));
deviceContract('BlockNode with a filter', async (lengthBytes) => {
  const node = new BlockNode(new MemoryDevice(lengthBytes));
  await node.insertFilter((below) => new PassFilter(below));
  return node;
});

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Opens when told. */
function makeGate(): { opened: Promise<void>; open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

/** A node over a device whose reads wait for a gate. */
function slow(): { node: BlockNode; open: () => void; device: MemoryDevice } {
  const { opened, open } = makeGate();
  const device = new MemoryDevice(100, { name: 'slow' });
  const fault = new FaultFilter(new BlockNode(device));
  fault.add({ operation: 'read', effect: { kind: 'hold', until: opened } });
  return { node: new BlockNode(fault), open, device };
}

describe('a drained section', () => {
  it('begins when requests in flight have ended, and holds new ones back', async () => {
    const { node, open } = slow();
    const log: string[] = [];
    const early = node.read(0, new Uint8Array(1)).then(() => log.push('early'));
    const section = node.drained(async () => {
      log.push('begin');
      await settle();
      log.push('end');
    });
    const late = node.flush().then(() => log.push('late'));
    await settle();
    expect(log).toEqual([]);
    open();
    await Promise.all([early, section, late]);
    expect(log.slice(0, 2).sort()).toEqual(['begin', 'early']);
    expect(log.slice(2)).toEqual(['end', 'late']);
  });

  it('gives what its action gives, and lets requests go on when it fails', async () => {
    const node = new BlockNode(new MemoryDevice(100));
    expect(await node.drained(() => 7)).toBe(7);
    const failed = node.drained(async () => {
      await settle();
      throw new Error('no');
    });
    const write = node.write(0, Buffer.from('a'));
    await expect(failed).rejects.toThrow('no');
    await write;
    await expect(
      node.drained(() => {
        throw new Error('at once');
      }),
    ).rejects.toThrow('at once');
    await node.flush();
  });

  it('nests, and others may begin beside it: requests go on after the last', async () => {
    const node = new BlockNode(new MemoryDevice(100));
    const gate = makeGate();
    const outer = node.drained(() => node.drained(() => node.drained(() => gate.opened)));
    const other = node.drained(() => settle());
    let flushed = false;
    const flush = node.flush().then(() => {
      flushed = true;
    });
    await other;
    await settle();
    expect(flushed).toBe(false);
    gate.open();
    await Promise.all([outer, flush]);
  });

  it('may begin again while those held back are being let go', async () => {
    const node = new BlockNode(new MemoryDevice(100));
    const flushes: Promise<void>[] = [];
    for (let turn = 0; turn < 50; turn++) {
      await node.drained(async () => {
        flushes.push(node.flush(), node.write(0, Buffer.from('x')));
        await settle();
        expect(node.inFlight).toBe(0);
      });
    }
    await Promise.all(flushes);
  });
});

describe('changes of the graph', () => {
  it('send requests that waited to the new device', async () => {
    const old = new MemoryDevice(100);
    const node = new BlockNode(old);
    const next = new MemoryDevice(100);
    const swapped = node.replace(next);
    await node.write(0, Buffer.from('later'));
    await swapped;
    expect(node.device).toBe(next);
    expect((await readAll(old)).equals(Buffer.alloc(100))).toBe(true);
    expect((await readAll(next)).toString('latin1', 0, 5)).toBe('later');
  });

  it('refuse another length, and keep what was there', async () => {
    const device = new MemoryDevice(100);
    const node = new BlockNode(device);
    await expect(node.replace(new MemoryDevice(101))).rejects.toMatchObject({ code: 'length-differs' });
    expect(node.device).toBe(device);
    await node.flush();
  });

  it('keep the old chain when a filter cannot be made', async () => {
    const device = new MemoryDevice(100);
    const node = new BlockNode(device);
    const failed = node.insertFilter(async () => {
      await settle();
      throw new Error('no filter today');
    });
    const write = node.write(0, Buffer.from('x'));
    await expect(failed).rejects.toThrow('no filter today');
    await write;
    const stray = new PassFilter(new BlockNode(device));
    await expect(node.insertFilter(() => stray)).rejects.toMatchObject({ code: 'wrong-filter' });
    expect(node.device).toBe(device);
  });

  it('stack filters, and take out the lowest, the middle and the top one', async () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 0, 2],
      [1, 2, 0],
    ]) {
      const device = new MemoryDevice(100);
      const node = new BlockNode(device);
      const filters: PassFilter[] = [];
      for (let at = 0; at < 3; at++) filters.push(await node.insertFilter((below) => new PassFilter(below)));
      await node.flush();
      expect(filters.map((filter) => filter.requests)).toEqual([1, 1, 1]);
      const left = new Set(filters);
      for (const at of order) {
        await node.removeFilter(filters[at]!);
        left.delete(filters[at]!);
        const before = filters.map((filter) => filter.requests);
        await node.flush();
        const passed = filters.filter((filter, index) => filter.requests > before[index]!);
        expect(new Set(passed)).toEqual(left);
      }
      expect(node.device).toBe(device);
    }
  });

  it('inserted at the same time all take effect', async () => {
    const node = new BlockNode(new MemoryDevice(100));
    const insert = () =>
      node.insertFilter(async (below) => {
        await settle();
        return new PassFilter(below);
      });
    const filters = await Promise.all([insert(), insert(), insert()]);
    await node.flush();
    expect(filters.map((filter) => filter.requests)).toEqual([1, 1, 1]);
    await Promise.all(filters.map((filter) => node.removeFilter(filter)));
    expect(node.device).toBeInstanceOf(MemoryDevice);
  });

  it.each([1, 2, 3, 4])('taken out at the same time in any order all leave, seed %i', async (seed) => {
    const random = seededRandom(seed);
    for (let turn = 0; turn < 50; turn++) {
      const device = new MemoryDevice(100);
      const node = new BlockNode(device);
      const onDetach = async () => {
        for (let wait = random.integer(0, 2); wait > 0; wait--) await settle();
      };
      const filters: PassFilter[] = [];
      for (let at = 0; at < 5; at++)
        filters.push(await node.insertFilter((below) => new PassFilter(below, { onDetach })));
      const kept = filters.splice(random.integer(0, 4), 1);
      filters.sort(() => random.integer(-1, 1));
      await Promise.all(filters.map((filter) => node.removeFilter(filter)));
      await node.flush();
      expect([node.device, kept[0]?.requests]).toEqual([kept[0], 1]);
      expect(kept[0]?.below.device).toBe(device);
    }
  });

  it('leave a filter in that does not want to go, or is not there', async () => {
    const node = new BlockNode(new MemoryDevice(100));
    const onDetach = () => {
      throw new Error('not now');
    };
    const filter = await node.insertFilter((below) => new PassFilter(below, { onDetach }));
    await expect(node.removeFilter(filter)).rejects.toThrow('not now');
    await node.flush();
    expect(filter.requests).toBe(1);
    const other = new PassFilter(new BlockNode(new MemoryDevice(100)));
    await expect(node.removeFilter(other)).rejects.toMatchObject({ code: 'no-such-filter', exitStatus: 4 });
  });

  it('let a filter use what is below it while it leaves', async () => {
    const node = new BlockNode(new MemoryDevice(100));
    const filter: FilterDevice = await node.insertFilter(
      (below) => new PassFilter(below, { onDetach: () => below.write(0, Buffer.from('last')) }),
    );
    await node.removeFilter(filter);
    expect((await readAll(node)).toString('latin1', 0, 4)).toBe('last');
  });

  it('one filter cannot be taken out twice at once', async () => {
    const node = new BlockNode(new MemoryDevice(100));
    const filter = await node.insertFilter((below) => new PassFilter(below));
    const results = await Promise.allSettled([node.removeFilter(filter), node.removeFilter(filter)]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await node.flush();
  });
});

describe('closing', () => {
  it('waits for requests in flight, closes the whole chain, once, and refuses what comes later', async () => {
    const { node, open } = slow();
    const read = node.read(0, new Uint8Array(1));
    const closed = node.close();
    const late = node.read(0, new Uint8Array(1));
    open();
    await read;
    await closed;
    await expect(late).rejects.toMatchObject({ code: 'device-closed', object: 'slow' });
    await expect(node.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'device-closed' });
    await node.close();
  });
});

/** Requests of non-overlapping stripes at once, so that a plain array stays the truth. */
async function randomTraffic(node: BlockNode, model: Buffer, random: Random, turns: number): Promise<void> {
  const stripe = model.length / 8;
  for (let turn = 0; turn < turns; turn++) {
    if (random.oneIn(3)) await settle();
    const from = stripe * random.integer(0, 7);
    const at = from + random.integer(0, stripe / 2);
    const length = random.integer(1, stripe / 2);
    const place = model.subarray(at, at + length);
    const kind = random.integer(0, 4);
    if (kind === 0) {
      const bytes = random.bytes(length);
      await node.write(at, bytes);
      place.set(bytes);
    } else if (kind === 1) {
      await node.writeZeroes(at, length);
      place.fill(0);
    } else if (kind === 2) {
      await node.flush();
    } else if (kind === 3) {
      expect((await node.blockStatus(at, length))[0]?.offsetBytes).toBe(at);
    } else {
      const read = Buffer.alloc(length);
      await node.read(at, read);
      expect(read.equals(place)).toBe(true);
    }
  }
}

it.each([1, 2, 3])('thousands of requests go right while filters come and go at random, seed %i', async (seed) => {
  const random = seededRandom(seed);
  const length = 1 << 16;
  const workers = 8;
  let device = new MemoryDevice(length * workers);
  const node = new BlockNode(device);
  const model = Buffer.alloc(length * workers);
  const filters: PassFilter[] = [];
  let passed = 0;
  let running = true;

  const pause = async () => {
    if (random.oneIn(4)) await settle();
  };
  const copyOver = async (): Promise<void> => {
    // As the end of a mirror does: under drain the content moves, then the device is another one.
    const next = new MemoryDevice(device.lengthBytes);
    await node.drained(async () => {
      await next.write(0, await readAll(device));
      const lowest = filters[0];
      if (lowest === undefined) await node.replace(next);
      else await lowest.below.replace(next);
      device = next;
    });
  };
  const rebuild = async (): Promise<void> => {
    while (running) {
      const choice = random.integer(0, 9);
      if (choice === 0) await copyOver();
      else if (choice < 6 && filters.length < 4) {
        filters.push(await node.insertFilter((below) => new PassFilter(below, { pause })));
      } else if (filters.length > 0) {
        const [filter] = filters.splice(random.integer(0, filters.length - 1), 1);
        await node.removeFilter(filter!);
        passed += filter!.requests;
      }
      await pause();
    }
  };
  const builder = rebuild();
  const parts = Array.from({ length: workers }, (_, at) => model.subarray(at * length, (at + 1) * length));
  await Promise.all(parts.map((part, at) => randomTraffic(offsetNode(node, at * length), part, random, 500)));
  running = false;
  await builder;
  for (const filter of filters.splice(0)) {
    await node.removeFilter(filter);
    passed += filter.requests;
  }
  expect(passed).toBeGreaterThan(1000);
  expect(node.device).toBe(device);
  expect((await readAll(device)).equals(model)).toBe(true);
});

/** The part of a node from an offset on, for one worker. */
function offsetNode(node: BlockNode, base: number): BlockNode {
  return {
    flush: () => node.flush(),
    read: (at: number, into: Uint8Array) => node.read(base + at, into),
    write: (at: number, from: Uint8Array) => node.write(base + at, from),
    writeZeroes: (at: number, length: number) => node.writeZeroes(base + at, length),
    blockStatus: async (at: number, length: number) =>
      (await node.blockStatus(base + at, length)).map((extent) => ({
        ...extent,
        offsetBytes: extent.offsetBytes - base,
      })),
  } as BlockNode;
}
