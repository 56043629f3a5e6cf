// SPDX-License-Identifier: MIT
// What every BlockDevice promises; each implementation passes it.

import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '#vmar/src/block/device.js';
import { seededRandom } from '../base/random.js';

/** Makes a writable device of at least this length that reads as zeros; closing it is the suite's. */
export type MakeDevice = (lengthBytes: number) => Promise<BlockDevice>;

export interface ContractOptions {
  /** Lengths that the kind of device can have are multiples of it; 1 if untold. */
  readonly lengthUnit?: number;
}

const OPERATIONS = 300;

export function deviceContract(name: string, make: MakeDevice, { lengthUnit = 1 }: ContractOptions = {}): void {
  const oddLength = lengthUnit === 1 ? 1_000_003 : 245 * lengthUnit;

  describe(`${name} keeps the contract of BlockDevice:`, () => {
    const using = async (lengthBytes: number, test: (device: BlockDevice) => Promise<void>) => {
      const device = await make(lengthBytes);
      expect(device.lengthBytes).toBe(lengthBytes);
      try {
        await test(device);
      } finally {
        await device.close();
      }
    };

    it.each([1, 2, 3])('it is an array of bytes, seed %i', (seed) =>
      using(oddLength, async (device) => {
        const random = seededRandom(seed);
        const model = Buffer.alloc(oddLength);
        for (let step = 0; step < OPERATIONS; step++) await randomStep(device, model, random);
        await device.flush();
        expect(model.equals(await readAll(device))).toBe(true);
      }),
    );

    it('operations in different ranges may run at once', () =>
      using(64 * 8192, async (device) => {
        const pieces = Array.from({ length: 64 }, (_, at) => Buffer.alloc(8192, at + 1));
        await Promise.all(
          pieces.map((piece, at) =>
            at % 3 === 0 ? device.writeZeroes(at * 8192, 8192) : device.write(at * 8192, piece),
          ),
        );
        await device.flush();
        const expected = Buffer.concat(pieces.map((piece, at) => (at % 3 === 0 ? Buffer.alloc(8192) : piece)));
        expect(expected.equals(await readAll(device))).toBe(true);
      }));

    it('it reads into shared memory, and only there', () =>
      using(8 * lengthUnit + 8192, async (device) => {
        await device.write(4096, Buffer.from('content'));
        const memory = new Uint8Array(new SharedArrayBuffer(32)).fill(9);
        await device.read(4095, memory.subarray(8, 17));
        expect([...memory.subarray(7, 18)]).toEqual([9, 0, ...Buffer.from('content'), 0, 9]);
      }));

    it('ranges past the end are refused, and change nothing', () =>
      using(oddLength, async (device) => {
        const refused = { code: 'out-of-range', exitStatus: 2, object: device.name };
        for (const [at, length] of [
          [oddLength, 1],
          [oddLength - 1, 2],
          [2 ** 52, 1],
          [-1, 1],
          [0.5, 1],
        ] as const) {
          await expect(device.read(at, new Uint8Array(length))).rejects.toMatchObject(refused);
          expect(device.tryRead?.(at, new Uint8Array(length))).not.toBe(true);
          await expect(device.write(at, new Uint8Array(length).fill(1))).rejects.toMatchObject(refused);
          await expect(device.writeZeroes(at, length)).rejects.toMatchObject(refused);
          await expect(device.discard(at, length)).rejects.toMatchObject(refused);
          await expect(device.blockStatus(at, length)).rejects.toMatchObject(refused);
        }
        expect((await readAll(device)).equals(Buffer.alloc(oddLength))).toBe(true);
      }));

    it('empty ranges are nothing', () =>
      using(oddLength, async (device) => {
        for (const at of [0, 17, oddLength]) {
          await device.read(at, new Uint8Array(0));
          await device.write(at, new Uint8Array(0));
          await device.writeZeroes(at, 0);
          await device.discard(at, 0);
        }
      }));

    it('a discard spares its surroundings', () =>
      using(16 * 4096, async (device) => {
        await device.write(0, Buffer.alloc(16 * 4096, 5));
        await device.discard(5000, 40_000);
        const all = await readAll(device);
        expect(all.subarray(0, 5000).equals(Buffer.alloc(5000, 5))).toBe(true);
        expect(all.subarray(45_000).equals(Buffer.alloc(16 * 4096 - 45_000, 5))).toBe(true);
      }));

    it('it may have no bytes at all', async () => {
      const device = await make(0);
      expect(device.lengthBytes).toBe(0);
      await device.read(0, new Uint8Array(0));
      await expect(device.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'out-of-range' });
      await device.flush();
      await device.close();
    });
  });
}

async function randomStep(device: BlockDevice, model: Buffer, random: ReturnType<typeof seededRandom>): Promise<void> {
  const unit = random.oneIn(2) ? 4096 : 1;
  const snap = (value: number) => Math.min(model.length, value - (value % unit));
  const from = snap(random.integer(0, model.length));
  const to = random.oneIn(10)
    ? model.length
    : Math.max(from, snap(Math.min(model.length, from + random.integer(0, 60_000))));
  switch (random.integer(0, 5)) {
    case 0:
    case 1: {
      const bytes = random.bytes(to - from);
      await device.write(from, bytes);
      model.set(bytes, from);
      break;
    }
    case 2:
    case 3:
      await device.writeZeroes(from, to - from, { keepAllocated: random.oneIn(2) });
      model.fill(0, from, to);
      break;
    case 4: {
      const read = Buffer.alloc(to - from, 0xee);
      await device.read(from, read);
      expect(read.equals(model.subarray(from, to))).toBe(true);
      if (device.tryRead?.(from, read.fill(0xee))) expect(read.equals(model.subarray(from, to))).toBe(true);
      break;
    }
    default:
      if (to > from) await checkStatus(device, model, from, to - from);
  }
}

/** Consecutive, inside, not empty, at least one; and what is called zero is zero. */
async function checkStatus(
  device: BlockDevice,
  model: Buffer,
  offsetBytes: number,
  lengthBytes: number,
): Promise<void> {
  const extents = await device.blockStatus(offsetBytes, lengthBytes);
  expect(extents.length).toBeGreaterThan(0);
  let at = offsetBytes;
  for (const extent of extents) {
    expect(extent.offsetBytes).toBe(at);
    expect(extent.lengthBytes).toBeGreaterThan(0);
    const end = at + extent.lengthBytes;
    if (extent.state === 'zero') expect(model.subarray(at, end).equals(Buffer.alloc(end - at))).toBe(true);
    at = end;
  }
  expect(at).toBeLessThanOrEqual(offsetBytes + lengthBytes);
}

export async function readAll(device: BlockDevice): Promise<Buffer> {
  const bytes = Buffer.alloc(device.lengthBytes, 0xee);
  await device.read(0, bytes);
  return bytes;
}
