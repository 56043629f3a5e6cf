// SPDX-License-Identifier: MIT

import { expect, it } from 'vitest';
import { NullDevice } from '#vmar/src/block/null-device.js';

it('reads as zeros and swallows what is written', async () => {
  const device = new NullDevice(2 ** 50 + 1);
  await device.write(2 ** 40, Buffer.alloc(4096, 7));
  await device.writeZeroes(0, 2 ** 50);
  await device.discard(1, 2 ** 50);
  await device.flush();
  const bytes = Buffer.alloc(4096, 9);
  await device.read(2 ** 40, bytes);
  expect(bytes.equals(Buffer.alloc(4096))).toBe(true);
  expect(await device.blockStatus(5, 2 ** 40)).toEqual([{ offsetBytes: 5, lengthBytes: 2 ** 40, state: 'zero' }]);
  expect(await device.blockStatus(5, 0)).toEqual([]);
  await device.close();
});

it('has an end, and may be read-only', async () => {
  const device = new NullDevice(10, { name: 'nowhere', readOnly: true });
  const refused = { code: 'out-of-range', object: 'nowhere' };
  await expect(device.read(10, new Uint8Array(1))).rejects.toMatchObject(refused);
  await expect(device.blockStatus(0, 11)).rejects.toMatchObject(refused);
  await expect(device.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'read-only' });
});
