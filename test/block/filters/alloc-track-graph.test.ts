// SPDX-License-Identifier: MIT

import { expect, it } from 'vitest';
import { ManualClock } from '#vmar/src/base/clock.js';
import { BlockNode, type FilterDevice } from '#vmar/src/block/block-node.js';
import { AllocTrack } from '#vmar/src/block/filters/alloc-track.js';
import { FaultFilter } from '#vmar/src/block/filters/fault.js';
import { ThrottleFilter } from '#vmar/src/block/filters/throttle.js';
import { type Random, seededRandom } from '../../base/random.js';
import { readAll } from '../device-contract.js';
import { SlowDevice, settle } from '../slow-device.js';

const STRIPE = 50_000;
const GUESTS = 6;
const LENGTH = STRIPE * GUESTS;

/** A guest that writes and reads a stripe of its own until it is told to stop, and knows what it wrote. */
async function runGuest(node: BlockNode, model: Buffer, base: number, random: Random, isOver: () => boolean) {
  let requests = 0;
  while (!isOver()) {
    const at = random.integer(0, STRIPE - 1);
    const length = random.integer(1, Math.min(9000, STRIPE - at));
    const own = model.subarray(base + at, base + at + length);
    if (random.oneIn(2)) {
      const bytes = random.bytes(length);
      await node.write(base + at, bytes);
      own.set(bytes);
    } else {
      const bytes = Buffer.alloc(length);
      await node.read(base + at, bytes);
      expect(bytes.equals(own)).toBe(true);
    }
    requests++;
  }
  return requests;
}

/** Puts throttles that hold back and filters that delay in and out, above and below alloc-track. */
async function rebuild(node: BlockNode, clock: ManualClock, random: Random, isOver: () => boolean) {
  const filters: FilterDevice[] = [];
  const limits = { operations: { total: { perSecond: 1 } } };
  while (!isOver() || filters.length > 0) {
    if (filters.length < 3 && !isOver() && random.oneIn(2)) {
      filters.push(
        await node.insertFilter(
          (below): FilterDevice =>
            random.oneIn(2) ? new ThrottleFilter(below, { limits, clock }) : new FaultFilter(below),
        ),
      );
    } else if (filters.length > 0) {
      await node.removeFilter(filters.splice(random.integer(0, filters.length - 1), 1)[0]!);
    }
    await settle();
  }
}

it.each([1, 2, 3])(
  'a restore fills and drops out while guests work and other filters come and go, seed %i',
  async (seed) => {
    const random = seededRandom(seed);
    const clock = new ManualClock();
    const backing = new SlowDevice(Buffer.from(random.bytes(LENGTH - 10_000)), random);
    backing.content.fill(0, 70_000, 150_000);
    const target = new SlowDevice(Buffer.from(random.bytes(LENGTH)), random);
    const node = new BlockNode(target);
    const options = { backing, targetIsZero: false, copyOnRead: random.oneIn(2) };
    const filter = await node.insertFilter((below) => new AllocTrack(below, options));
    const model = Buffer.alloc(LENGTH);
    model.set(backing.content);

    let isOver = false;
    const guests = Array.from({ length: GUESTS }, (_, guest) =>
      runGuest(node, model, guest * STRIPE, random, () => isOver),
    );
    const changes = rebuild(node, clock, random, () => isOver);
    for (let at = 0; at < LENGTH; at += 16_384) {
      await filter.fill(at, Math.min(16_384, LENGTH - at));
      await settle();
    }
    await filter.detachBacking();
    backing.content.fill(0xbb);
    await node.removeFilter(filter);
    for (let turns = 0; turns < 50; turns++) await settle();
    isOver = true;
    await changes;
    expect((await Promise.all(guests)).reduce((sum, requests) => sum + requests, 0)).toBeGreaterThan(100);
    expect(node.device).toBe(target);
    expect((await readAll(node)).equals(model)).toBe(true);
  },
);
