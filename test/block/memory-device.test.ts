// SPDX-License-Identifier: MIT

import { expect, it } from 'vitest';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { deviceContract } from './device-contract.js';

deviceContract('MemoryDevice', async (lengthBytes) => new MemoryDevice(lengthBytes));

it('holds only what was written, in a device of any length', async () => {
  const length = 2 ** 50 + 3;
  const device = new MemoryDevice(length);
  await device.write(2 ** 49, Buffer.alloc(4096, 1));
  expect(await device.blockStatus(0, length)).toEqual([
    { offsetBytes: 0, lengthBytes: 2 ** 49, state: 'zero' },
    { offsetBytes: 2 ** 49, lengthBytes: 4096, state: 'data' },
    { offsetBytes: 2 ** 49 + 4096, lengthBytes: length - 2 ** 49 - 4096, state: 'zero' },
  ]);
  await device.writeZeroes(0, length);
  expect(await device.blockStatus(0, length)).toEqual([{ offsetBytes: 0, lengthBytes: length, state: 'zero' }]);
});

it('is not written to when read-only', async () => {
  const device = new MemoryDevice(10, { name: 'mine', readOnly: true });
  await expect(device.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'read-only', object: 'mine' });
});
