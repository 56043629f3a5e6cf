// SPDX-License-Identifier: MIT
// Coverage against a plain array of what has come.

import { expect, it } from 'vitest';
import { Coverage } from '#vmar/src/nbd/client/coverage.js';
import { seededRandom } from '../../base/random.js';

it.each(Array.from({ length: 50 }, (_, seed) => seed))('takes each byte once, in any order, seed %i', (seed) => {
  const random = seededRandom(seed);
  const length = random.integer(1, 40);
  const coverage = new Coverage(length);
  const come = new Array<boolean>(length).fill(false);
  for (let step = 0; step < 300; step++) {
    const from = random.integer(-2, length + 1);
    const count = random.integer(0, random.oneIn(4) ? length : 3);
    const range = Array.from({ length: count }, (_, index) => from + index);
    const fits = count > 0 && range.every((at) => come[at] === false);
    expect(coverage.add(from, count)).toBe(fits);
    if (fits) for (const at of range) come[at] = true;
    expect(coverage.isComplete).toBe(come.every((each) => each));
  }
});
