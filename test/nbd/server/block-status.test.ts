// SPDX-License-Identifier: MIT
// What devices and bitmaps say, as extents for the wire.

import { expect, it } from 'vitest';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { statusExtents } from '#vmar/src/nbd/server/block-status.js';

const MIB = 1 << 20;
const ALLOCATION = { kind: 'allocation', name: 'base:allocation' } as const;

/** Data in every second 64 KiB. */
async function striped(lengthBytes: number): Promise<MemoryDevice> {
  const device = new MemoryDevice(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 2 * 65536) await device.write(at, Buffer.alloc(65536, 1));
  return device;
}

it('neighbours of one state are one extent, and a range is told to its end', async () => {
  const device = await striped(4 * MIB);
  await device.write(65536, Buffer.alloc(65536, 1));
  const extents = await statusExtents(device, ALLOCATION, 1000, 4 * MIB - 1000, 8192);
  expect(extents.slice(0, 3)).toEqual([
    { lengthBytes: 3 * 65536 - 1000, flags: 0 },
    { lengthBytes: 65536, flags: 3 },
    { lengthBytes: 65536, flags: 0 },
  ]);
  expect(extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)).toBe(4 * MIB - 1000);
});

it('no more extents than wanted, all before the first that is too many', async () => {
  const device = await striped(4 * MIB);
  expect(await statusExtents(device, ALLOCATION, 0, 4 * MIB, 3)).toEqual([
    { lengthBytes: 65536, flags: 0 },
    { lengthBytes: 65536, flags: 3 },
    { lengthBytes: 65536, flags: 0 },
  ]);
});

it('one extent is found with little asking, however long it is', async () => {
  const device = await striped(64 * MIB);
  await device.writeZeroes(32 * MIB, 31 * MIB);
  const asked: number[] = [];
  const status = device.blockStatus.bind(device);
  device.blockStatus = (offsetBytes, lengthBytes) => {
    asked.push(lengthBytes);
    return status(offsetBytes, lengthBytes);
  };
  expect(await statusExtents(device, ALLOCATION, 0, 64 * MIB, 1)).toEqual([{ lengthBytes: 65536, flags: 0 }]);
  expect(asked).toEqual([MIB]);
  expect(await statusExtents(device, ALLOCATION, 32 * MIB, 32 * MIB, 1)).toEqual([{ lengthBytes: 31 * MIB, flags: 3 }]);
  expect(asked.length).toBeLessThan(6);
});

it('dirty bits are told to the end of the bitmap', async () => {
  const bitmap = new DirtyBitmap(MIB + 5, 65536);
  const context = { kind: 'bitmap', name: 'qemu:dirty-bitmap:b', bitmap } as const;
  const device = new MemoryDevice(MIB + 5);
  bitmap.set(MIB, 1);
  bitmap.set(65536, 65536);
  expect(await statusExtents(device, context, 65536 + 7, MIB - 65536 - 2, 10)).toEqual([
    { lengthBytes: 65536 - 7, flags: 1 },
    { lengthBytes: MIB - 2 * 65536, flags: 0 },
    { lengthBytes: 5, flags: 1 },
  ]);
});
