// SPDX-License-Identifier: MIT
// The bitmap that is read says what the server says, no more dirty, no less, and takes no more detail than there is.

import { expect, it } from 'vitest';
import type { DirtyExtent } from '#vmar/src/nbd/client/nbd-device.js';
import { readDirtyBitmap } from '#vmar/src/nbd/client/read-dirty-bitmap.js';
import { seededRandom } from '../../base/random.js';

/** Tells at most three extents at a time. */
function teller(lengthBytes: number, extents: readonly DirtyExtent[]) {
  const dirtyStatus = async (from: number, asked: number) =>
    extents
      .map(({ offsetBytes, lengthBytes: length, dirty }) => {
        const start = Math.max(from, offsetBytes);
        return { offsetBytes: start, lengthBytes: Math.min(from + asked, offsetBytes + length) - start, dirty };
      })
      .filter((extent) => extent.lengthBytes > 0)
      .slice(0, 3);
  return { lengthBytes, dirtyStatus };
}

it.each([
  [1, 512, 7 * 65536 + 17],
  [2, 4096, 40 * 65536 - 1],
  [3, 65536, 100 * 65536],
  [4, 1 << 20, 90 * 65536 + 5],
  [5, 1, 70_001],
] as const)('seed %i, edges at multiples of %i', async (seed, unit, lengthBytes) => {
  const random = seededRandom(seed);
  const extents: DirtyExtent[] = [];
  for (let at = 0, dirty = random.oneIn(2); at < lengthBytes; dirty = !dirty) {
    const length = Math.min(random.integer(1, 9) * unit, lengthBytes - at);
    extents.push({ offsetBytes: at, lengthBytes: length, dirty });
    at += length;
  }
  const bitmap = await readDirtyBitmap(teller(lengthBytes, extents), 65536);
  const expected = extents.filter(({ dirty }) => dirty).map(({ dirty: _, ...range }) => range);
  expect([...bitmap.ranges()]).toEqual(expected);
  expect(bitmap.granularityBytes).toBeGreaterThanOrEqual(Math.min(unit, 65536));
});

it('of a disk of no length is empty', async () => {
  expect((await readDirtyBitmap(teller(0, []), 65536)).isClean).toBe(true);
});
