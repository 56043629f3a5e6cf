// SPDX-License-Identifier: MIT

import { expect, it } from 'vitest';
import { Limiter } from '#vmar/src/base/bounded-queue.js';
import { seededRandom } from './random.js';

it('lets no more than so many run, in the order they came', async () => {
  const random = seededRandom(1);
  const limiter = new Limiter(3);
  const started: number[] = [];
  let running = 0;
  let most = 0;
  const tasks = Array.from({ length: 50 }, (_, number) =>
    limiter.run(async () => {
      started.push(number);
      most = Math.max(most, ++running);
      for (let turns = random.integer(0, 5); turns > 0; turns--) await new Promise(setImmediate);
      running--;
      return number;
    }),
  );
  expect(await Promise.all(tasks)).toEqual([...Array(50).keys()]);
  expect(started).toEqual([...Array(50).keys()]);
  expect(most).toBe(3);
});

it('goes on after a task that failed', async () => {
  const limiter = new Limiter(1);
  const failing = limiter.run(() => Promise.reject(new Error('no')));
  const next = limiter.run(async () => 'yes');
  await expect(failing).rejects.toThrow('no');
  expect(await next).toBe('yes');
});
