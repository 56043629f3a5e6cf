// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { ManualClock, REAL_CLOCK } from '#vmar/src/base/clock.js';
import { BlockNode } from '#vmar/src/block/block-node.js';
import { ThrottleFilter, type ThrottleLimits } from '#vmar/src/block/filters/throttle.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { deviceContract } from '../device-contract.js';

deviceContract('ThrottleFilter', async (lengthBytes) => {
  const limits = { bytes: { total: { perSecond: 1e12 } }, operations: { total: { perSecond: 1e9 } } };
  return new ThrottleFilter(new BlockNode(new MemoryDevice(lengthBytes)), { limits, clock: REAL_CLOCK });
});

const LENGTH = 1 << 20;

function make(limits: ThrottleLimits): { clock: ManualClock; device: ThrottleFilter } {
  const clock = new ManualClock();
  return { clock, device: new ThrottleFilter(new BlockNode(new MemoryDevice(LENGTH)), { limits, clock }) };
}

/** Lets promises settle. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** How many of so many equal requests, sent at once, had ended at each of these times. */
async function endedAt(
  { clock }: { clock: ManualClock },
  count: number,
  request: () => Promise<unknown>,
  times: readonly number[],
): Promise<number[]> {
  let ended = 0;
  for (let at = 0; at < count; at++) void request().then(() => ended++);
  const found: number[] = [];
  for (const time of times) {
    await settle();
    while (clock.monotonicMillis() < time) {
      clock.advance(1);
      await settle();
    }
    found.push(ended);
  }
  return found;
}

const kibibyte = Buffer.alloc(1024);

describe('limits', () => {
  it('keep the mean of bytes a second', async () => {
    const throttled = make({ bytes: { total: { perSecond: 100 * 1024 } } });
    const ended = await endedAt(throttled, 500, () => throttled.device.write(0, kibibyte), [0, 1000, 2000, 4000]);
    // A tenth of a second's worth passes at once.
    expect(ended).toEqual([11, 111, 211, 411]);
  });

  it('keep the mean of operations a second, of which a large request is several', async () => {
    const throttled = make({ operations: { total: { perSecond: 20 } }, operationBytes: 512 });
    const ended = await endedAt(throttled, 100, () => throttled.device.read(0, kibibyte), [0, 1000, 2000]);
    expect(ended).toEqual([2, 12, 22]);
    expect(throttled.device.waiting).toBe(78);
  });

  it('let a burst pass for as long as it may last, and the next one when it was saved up for', async () => {
    const rate = { perSecond: 10, burstPerSecond: 100, burstSeconds: 2 };
    const throttled = make({ operations: { total: rate } });
    const ended = await endedAt(throttled, 400, () => throttled.device.discard(0, 1), [1000, 2000, 3000, 5000]);
    expect(ended[0]).toBeGreaterThanOrEqual(100);
    expect(ended[0]).toBeLessThanOrEqual(112);
    expect(ended[1]).toBeGreaterThanOrEqual(199);
    expect(ended[1]).toBeLessThanOrEqual(212);
    expect(ended[2]! - ended[1]!).toBeLessThanOrEqual(15);
    expect(ended[3]! - ended[2]!).toBe(20);
  });

  it('of reads do not hold writes, and the other way round', async () => {
    const throttled = make({ operations: { read: { perSecond: 10 } } });
    expect(await endedAt(throttled, 50, () => throttled.device.read(0, kibibyte), [0])).toEqual([2]);
    expect(await endedAt(throttled, 50, () => throttled.device.write(0, kibibyte), [0])).toEqual([50]);
    await throttled.device.flush();
    await throttled.device.blockStatus(0, 1);
  });

  it('of bytes leave zeros and discards alone', async () => {
    const throttled = make({ bytes: { write: { perSecond: 1 } } });
    expect(await endedAt(throttled, 50, () => throttled.device.writeZeroes(0, LENGTH), [0])).toEqual([50]);
  });

  it('keep the order', async () => {
    const { clock, device } = make({ bytes: { total: { perSecond: 1024 } } });
    const order: number[] = [];
    const writes = Array.from({ length: 20 }, (_, at) => device.write(at, kibibyte).then(() => order.push(at)));
    while (order.length < 20) {
      await settle();
      clock.advanceToNext();
    }
    await Promise.all(writes);
    expect(order).toEqual([...order].sort((a, b) => a - b));
  });

  it('change for those who wait, too', async () => {
    const throttled = make({ bytes: { total: { perSecond: 1 } } });
    expect(await endedAt(throttled, 10, () => throttled.device.write(0, kibibyte), [0])).toEqual([1]);
    throttled.device.setLimits({});
    await settle();
    expect(throttled.device.waiting).toBe(0);
    expect(throttled.clock.sleeping).toBe(0);
  });

  it('that make no sense are refused, and change nothing', () => {
    const { device } = make({ bytes: { total: { perSecond: 5 } } });
    const wrong: ThrottleLimits[] = [
      { bytes: { total: { perSecond: 0 } } },
      { bytes: { read: { perSecond: Number.NaN } } },
      { operations: { total: { perSecond: 5, burstPerSecond: 5 } } },
      { operations: { total: { perSecond: 5, burstPerSecond: 6, burstSeconds: 0 } } },
      { operationBytes: 0 },
    ];
    for (const limits of wrong) expect(() => device.setLimits(limits)).toThrow(/above 0/);
    expect(device.limits).toEqual({ bytes: { total: { perSecond: 5 } } });
  });
});

it('a drain does not wait for those held back, and the filter can be taken out with a full line', async () => {
  const clock = new ManualClock();
  const node = new BlockNode(new MemoryDevice(LENGTH));
  const limits = { bytes: { total: { perSecond: 1 } } };
  const filter = await node.insertFilter((below) => new ThrottleFilter(below, { limits, clock }));
  const writes = Array.from({ length: 30 }, () => node.write(0, kibibyte));
  await settle();
  expect(filter.waiting).toBe(29);
  await node.drained(() => expect(node.inFlight).toBe(0));
  await Promise.all(writes);
  const more = Array.from({ length: 30 }, () => node.write(0, kibibyte));
  await node.removeFilter(filter);
  await Promise.all(more);
  await node.write(0, kibibyte);
});
