// SPDX-License-Identifier: MIT
// Proves: content and holes are those of the device below, whatever the order of reading, and all that was read or told
// to be zero is given up below.

import { describe, expect, it } from 'vitest';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { ComparedDevice } from '#vmar/src/block/filters/compared.js';
import { ReadOnceDevice } from '#vmar/src/block/filters/read-once.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { seededRandom } from '../../base/random.js';

const GRANULE = 65536;

/** Reads of what was given up are refused, as QEMU does. */
class Snapshot extends MemoryDevice {
  readonly gone = new DirtyBitmap(this.lengthBytes, GRANULE);

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    const end = offsetBytes + into.byteLength;
    if (this.gone.nextDirty(offsetBytes, end) !== undefined) throw new Error(`given up: ${offsetBytes}`);
    await super.read(offsetBytes, into);
  }

  override async blockStatus(offsetBytes: number, lengthBytes: number) {
    if (this.gone.nextDirty(offsetBytes, offsetBytes + lengthBytes) !== undefined) throw new Error('given up');
    return await super.blockStatus(offsetBytes, lengthBytes);
  }

  override async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.gone.set(offsetBytes, lengthBytes);
  }
}

describe('ReadOnceDevice', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('gives the content once, and everything up, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const below = new Snapshot(random.integer(1, 40) * GRANULE + (random.oneIn(2) ? random.integer(0, 127) * 512 : 0));
    for (let n = random.integer(0, 8); n > 0; n--) {
      const at = random.integer(0, below.lengthBytes - 1);
      await below.write(at, random.bytes(random.integer(1, Math.min(200_000, below.lengthBytes - at))));
    }
    const expected = Buffer.alloc(below.lengthBytes);
    await MemoryDevice.prototype.read.call(below, 0, expected);
    let uses = 0;
    const device = new ReadOnceDevice(below, { onUse: () => uses++ });
    const got = Buffer.alloc(below.lengthBytes);
    // Slots of two granules, in any order, each after a look at what it holds.
    const starts = Array.from({ length: Math.ceil(below.lengthBytes / (2 * GRANULE)) }, (_, at) => at * 2 * GRANULE);
    starts.sort(() => random.integer(-1, 1));
    for (const at of starts) {
      const length = Math.min(2 * GRANULE, below.lengthBytes - at);
      const told = await device.blockStatus(at, length);
      expect(told[0]!.offsetBytes).toBe(at);
      if (random.oneIn(2)) await device.blockStatus(at, length);
      if (told.length === 1 && told[0]!.state === 'zero' && told[0]!.lengthBytes === length && random.oneIn(2))
        continue;
      await device.read(at, got.subarray(at, at + length));
    }
    expect(got.equals(expected)).toBe(true);
    await device.close();
    expect(uses).toBe(1);
    expect(below.gone.isAllDirty).toBe(true);
    await expect(device.write()).rejects.toThrow();
  });
});

describe('ComparedDevice', () => {
  it('finds a byte that changed where nothing should have', async () => {
    const [now, before] = [new MemoryDevice(4 * GRANULE), new MemoryDevice(4 * GRANULE)];
    const changes = new DirtyBitmap(4 * GRANULE, GRANULE);
    changes.set(GRANULE, GRANULE);
    await now.write(GRANULE, Buffer.alloc(GRANULE, 1));
    const device = new ComparedDevice(now, before, changes);
    const all = Buffer.alloc(4 * GRANULE);
    await device.read(0, all);
    expect(device.difference).toBeUndefined();
    expect(await device.blockStatus(0, 4 * GRANULE)).toEqual([{ offsetBytes: 0, lengthBytes: GRANULE, state: 'data' }]);
    await now.write(3 * GRANULE + 5, Buffer.of(1));
    await device.read(0, all);
    expect(device.difference).toEqual({ offsetBytes: 2 * GRANULE, lengthBytes: 2 * GRANULE });
  });
});
