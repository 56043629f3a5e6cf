// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { ManualClock, REAL_CLOCK } from '#vmar/src/base/clock.js';
import { InterruptedError } from '#vmar/src/base/errors.js';

describe('REAL_CLOCK', () => {
  it('sleeps at least so long', async () => {
    const before = REAL_CLOCK.monotonicMillis();
    await REAL_CLOCK.sleep(20);
    expect(REAL_CLOCK.monotonicMillis() - before).toBeGreaterThanOrEqual(20);
  });

  it('stops sleeping when told to', async () => {
    const stop = new AbortController();
    const sleep = REAL_CLOCK.sleep(2 ** 40, stop.signal);
    stop.abort();
    await expect(sleep).rejects.toBeInstanceOf(InterruptedError);
    await expect(REAL_CLOCK.sleep(0, stop.signal)).rejects.toBeInstanceOf(InterruptedError);
  });
});

describe('ManualClock', () => {
  it('wakes sleepers in their order, and only those', async () => {
    const clock = new ManualClock(1_000_000);
    const woken: number[] = [];
    const sleeps = [30, 10, 20, 100].map((millis) => clock.sleep(millis).then(() => woken.push(millis)));
    clock.advance(30);
    await Promise.all(sleeps.slice(0, 3));
    expect(woken).toEqual([10, 20, 30]);
    expect(clock.sleeping).toBe(1);
    clock.advanceToNext();
    await sleeps[3];
    expect(clock.monotonicMillis()).toBe(100);
    expect(clock.nowMillis()).toBe(1_000_100);
    clock.advanceToNext();
    expect(clock.monotonicMillis()).toBe(100);
  });

  it('stops sleeping when told to', async () => {
    const clock = new ManualClock();
    const stop = new AbortController();
    const sleep = clock.sleep(10, stop.signal);
    stop.abort();
    await expect(sleep).rejects.toBeInstanceOf(InterruptedError);
    expect(clock.sleeping).toBe(0);
    await expect(clock.sleep(10, stop.signal)).rejects.toBeInstanceOf(InterruptedError);
  });
});
