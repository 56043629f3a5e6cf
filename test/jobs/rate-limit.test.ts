// SPDX-License-Identifier: MIT
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ManualClock } from '#vmar/src/base/clock.js';
import { InterruptedError } from '#vmar/src/base/errors.js';
import { RateLimit } from '#vmar/src/jobs/rate-limit.js';
import { seededRandom } from '../base/random.js';

const never = new AbortController().signal;

describe('RateLimit', () => {
  it('with 0 lets everything pass', () => {
    const limit = new RateLimit(new ManualClock(), 0);
    for (let piece = 0; piece < 100; piece++) expect(limit.admit(2 ** 40, never)).toBeUndefined();
  });

  it('lets a slice pass at once, then waits for what passed to be paid', async () => {
    const clock = new ManualClock();
    const limit = new RateLimit(clock, 1000);
    expect(limit.admit(99, never)).toBeUndefined();
    expect(limit.admit(401, never)).toBeUndefined();
    const waiting = limit.admit(1, never);
    expect(waiting).toBeInstanceOf(Promise);
    clock.advanceToNext();
    await waiting;
    expect(clock.monotonicMillis()).toBe(500);
  });

  it.each([1, 2, 3, 4])('is never too fast, nor slower than it must be, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const clock = new ManualClock();
    const speed = random.integer(1000, 1_000_000);
    const limit = new RateLimit(clock, speed);
    let admitted = 0;
    let largest = 0;
    for (let piece = 0; piece < 500; piece++) {
      const bytes = random.integer(1, speed / 5);
      const waiting = limit.admit(bytes, never);
      while (clock.sleeping > 0) {
        clock.advanceToNext();
        await turn();
      }
      await waiting;
      largest = Math.max(largest, bytes);
      admitted += bytes;
      const earned = (speed * clock.monotonicMillis()) / 1000;
      expect(admitted).toBeLessThanOrEqual(earned + speed / 10 + largest + 1);
      expect(admitted).toBeGreaterThanOrEqual(earned - 1);
    }
  });

  it('keeps nothing for later from an idle time', () => {
    const clock = new ManualClock();
    const limit = new RateLimit(clock, 1000);
    clock.advance(1_000_000);
    expect(limit.admit(200, never)).toBeUndefined();
    expect(limit.admit(1, never)).toBeInstanceOf(Promise);
  });

  it('follows a new speed at once, also where it waits', async () => {
    const clock = new ManualClock();
    const limit = new RateLimit(clock, 1);
    limit.admit(1_000_000, never);
    const waiting = limit.admit(1_000_000, never);
    limit.setSpeed(1_000_000);
    await turn();
    clock.advance(1000);
    await waiting;
    const unlimited = limit.admit(5, never);
    limit.setSpeed(0);
    await unlimited;
    expect(clock.monotonicMillis()).toBe(1000);
    limit.setSpeed(1000);
    expect(limit.admit(1, never)).toBeUndefined();
  });

  it('stops waiting when told to', async () => {
    const limit = new RateLimit(new ManualClock(), 1);
    limit.admit(100, never);
    const stop = new AbortController();
    const waiting = limit.admit(1, stop.signal);
    stop.abort();
    await expect(waiting).rejects.toBeInstanceOf(InterruptedError);
    await expect(limit.admit(1, stop.signal)).rejects.toBeInstanceOf(InterruptedError);
  });

  it('refuses what is no speed', () => {
    for (const speed of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => new RateLimit(new ManualClock(), speed)).toThrow(expect.objectContaining({ code: 'bad-speed' }));
    }
  });
});
