// SPDX-License-Identifier: MIT

import { expect, it } from 'vitest';
import { BufferPool } from '#vmar/src/nbd/server/buffer-pool.js';

const MIB = 1 << 20;

it('gives memory that is large enough, and the same again', () => {
  const pool = new BufferPool(64 * MIB);
  for (const lengthBytes of [1, 4096, 4097, 65536, MIB, MIB + 1, 32 * MIB, 33 * MIB]) {
    const buffer = pool.take(lengthBytes);
    expect(buffer.length).toBeGreaterThanOrEqual(lengthBytes);
    expect(buffer.length).toBeLessThan(Math.max(8192, 2 * lengthBytes));
    pool.give(buffer);
    if (lengthBytes <= 32 * MIB) expect(pool.take(lengthBytes)).toBe(buffer);
  }
});

it('keeps no more than it may', () => {
  const pool = new BufferPool(2 * MIB);
  const buffers = Array.from({ length: 3 }, () => pool.take(MIB));
  for (const buffer of buffers) pool.give(buffer);
  const again = Array.from({ length: 3 }, () => pool.take(MIB));
  expect(again.filter((buffer) => buffers.includes(buffer))).toHaveLength(2);
});

it('memory too large to be kept does not count as kept', () => {
  const pool = new BufferPool(64 * MIB);
  pool.give(pool.take(64 * MIB));
  const buffer = pool.take(MIB);
  pool.give(buffer);
  expect(pool.take(MIB)).toBe(buffer);
});
