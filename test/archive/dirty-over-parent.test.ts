// SPDX-License-Identifier: MIT
// A disk put together from what changed and from its parent reads as the disk, and never asks for what is refused.

import { describe, expect, it } from 'vitest';
import { DirtyOverParent } from '#vmar/src/archive/dirty-over-parent.js';
import { DamageError, FailedError } from '#vmar/src/base/errors.js';
import type { BlockExtent } from '#vmar/src/block/device.js';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { seededRandom } from '../base/random.js';

const LENGTH = 1_000_003;

/** As an export of what changed: it fails where the bitmap is clean, whatever is asked. */
class Picky extends MemoryDevice {
  constructor(readonly dirty: DirtyBitmap) {
    super(dirty.lengthBytes, { name: 'picky' });
  }

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    this.#check(offsetBytes, into.byteLength);
    await super.read(offsetBytes, into);
  }

  override async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    this.#check(offsetBytes, lengthBytes);
    return await super.blockStatus(offsetBytes, lengthBytes);
  }

  #check(offsetBytes: number, lengthBytes: number): void {
    if (this.dirty.nextClean(offsetBytes, offsetBytes + lengthBytes) === undefined) return;
    throw new FailedError('refused', 'EINVAL', { offsetBytes });
  }
}

async function setUp(seed: number, granularityBytes: number) {
  const random = seededRandom(seed);
  const dirty = new DirtyBitmap(LENGTH, granularityBytes);
  const [source, parent] = [new Picky(dirty), new MemoryDevice(LENGTH, { name: 'parent' })];
  const model = Buffer.alloc(LENGTH);
  for (let at = 0; at < LENGTH; ) {
    const bytes = random.oneIn(3) ? new Uint8Array(30_000) : random.bytes(random.integer(1, 30_000));
    const piece = bytes.subarray(0, LENGTH - at);
    await parent.write(at, piece);
    model.set(piece, at);
    at += piece.byteLength;
  }
  for (let count = 0; count < 20; count++) {
    const at = random.integer(0, LENGTH - 1);
    dirty.set(at, random.integer(1, Math.min(20_000, LENGTH - at)));
  }
  for (const { offsetBytes, lengthBytes } of dirty.ranges()) {
    const bytes = random.oneIn(3) ? new Uint8Array(lengthBytes) : random.bytes(lengthBytes);
    await source.write(offsetBytes, bytes);
    model.set(bytes, offsetBytes);
  }
  return { random, dirty, source, parent, model, device: new DirtyOverParent({ source, parent, dirty }) };
}

describe.each([
  [1, 512],
  [2, 4096],
  [3, 65536],
  [4, 1 << 20],
] as const)('seed %i, a bitmap as fine as %i bytes', (seed, granularityBytes) => {
  it('reads as the disk in any range', async () => {
    const { random, device, model } = await setUp(seed, granularityBytes);
    for (let round = 0; round < 200; round++) {
      const from = random.integer(0, LENGTH);
      const into = Buffer.alloc(Math.min(random.integer(0, 200_000), LENGTH - from), 0xee);
      await device.read(from, into);
      expect(into.equals(model.subarray(from, from + into.byteLength)), `seed ${seed}, from ${from}`).toBe(true);
    }
  });

  it('says what is zero and what is the parent’s', async () => {
    const { device, model, dirty } = await setUp(seed, granularityBytes);
    for (let at = 0; at < LENGTH; ) {
      const extents = await device.blockStatus(at, LENGTH - at);
      expect(extents.length).toBeGreaterThan(0);
      for (const { offsetBytes, lengthBytes, state, backed } of extents) {
        expect(offsetBytes).toBe(at);
        at += lengthBytes;
        if (state === 'zero') expect(model.subarray(offsetBytes, at).every((byte) => byte === 0)).toBe(true);
        const other = backed ? dirty.nextDirty(offsetBytes, at) : dirty.nextClean(offsetBytes, at);
        expect(other).toBeUndefined();
      }
    }
  });
});

it('says what to do where the parent is damaged, and reads the rest', async () => {
  const { device, parent, dirty } = await setUp(5, 4096);
  parent.read = async () => {
    throw new DamageError('chunk-damaged', 'the chunk is damaged');
  };
  const clean = dirty.nextClean(0) ?? 0;
  await expect(device.read(clean, new Uint8Array(1))).rejects.toMatchObject({ code: 'parent-damaged', exitStatus: 1 });
  await device.read(dirty.nextDirty(0) ?? 0, new Uint8Array(1));
});

it('is of one length, and for reading only', async () => {
  const [source, parent] = [new MemoryDevice(10), new MemoryDevice(11)];
  const dirty = new DirtyBitmap(10, 1);
  expect(() => new DirtyOverParent({ source, parent, dirty })).toThrow(/another length/);
  const device = new DirtyOverParent({ source, parent: new MemoryDevice(10), dirty });
  for (const change of [device.write(), device.writeZeroes(), device.discard()]) {
    await expect(change).rejects.toMatchObject({ code: 'read-only' });
  }
  await expect(device.read(10, new Uint8Array(1))).rejects.toMatchObject({ code: 'out-of-range' });
});
