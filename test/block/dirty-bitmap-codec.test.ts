// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { sealer } from '#vmar/formats/vmar/hash.js';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { seededRandom } from '../base/random.js';

function same(a: DirtyBitmap, b: DirtyBitmap): void {
  expect([a.lengthBytes, a.granularityBytes, a.dirtyBytes]).toEqual([b.lengthBytes, b.granularityBytes, b.dirtyBytes]);
  expect([...a.ranges()]).toEqual([...b.ranges()]);
}

function small(): DirtyBitmap {
  const bitmap = new DirtyBitmap(5 * 4096 * 8 + 100, 8);
  bitmap.set(16, 24);
  bitmap.set(4096 * 8, 2 * 4096 * 8);
  for (let at = 0; at < 4096; at += 2) bitmap.set((4 * 4096 + at) * 8, 8);
  bitmap.set(5 * 4096 * 8 + 90, 10);
  return bitmap;
}

/** Lets the numbers lie while the seal is right, as a liar would. */
function forged(change: (bytes: Buffer) => void, bytes = Buffer.from(small().serialize())): Buffer {
  const body = bytes.subarray(0, bytes.length - 16);
  change(body);
  return Buffer.concat([body, sealer('blake3')(body)]);
}

const damaged = expect.objectContaining({ code: 'bitmap-damaged', exitStatus: 3 });

describe('a dirty bitmap as bytes', () => {
  it.each([1, 2, 3, 4])('comes back as it was, seed %i', (seed) => {
    const random = seededRandom(seed);
    for (const [length, granularity] of [
      [3_000_001, 1],
      [3_000_001, 512],
      [2 ** 46, 4096],
      [2 ** 46 - 1, 2 ** 20],
    ] as const) {
      const bitmap = new DirtyBitmap(length, granularity);
      for (let step = 0; step < 200; step++) {
        const from = random.integer(0, length - 1);
        const bytes = Math.min(length - from, random.integer(1, random.oneIn(9) ? length : 100_000));
        if (random.oneIn(4)) bitmap.clear(from, bytes);
        else bitmap.set(from, bytes);
      }
      same(DirtyBitmap.deserialize(bitmap.serialize()), bitmap);
    }
  });

  it('has this layout', () => {
    const bitmap = new DirtyBitmap(3 * 4096 + 20, 1);
    bitmap.set(1, 3);
    bitmap.set(100, 1);
    bitmap.set(4096, 4096);
    for (let at = 0; at < 4096; at += 8) bitmap.set(2 * 4096 + at, 3);
    bitmap.set(3 * 4096 + 19, 1);
    const hex = Buffer.from(bitmap.serialize()).toString('hex');
    const expected = [
      '766d617242495453' + '01000000' + '04000000' + '1430000000000000' + '0100000000000000',
      '0000000000000000' + '0010000004000000' + '0100' + '0400' + '6400' + '6500',
      '0010000000000000' + '0010000000000080',
      `00200000000000000010000000000000${'07'.repeat(512)}`,
      '0030000000000000' + '1400000001000000' + '1300',
    ].join('');
    expect(hex.slice(0, -32)).toBe(expected);
    expect(hex.slice(-32)).toBe(Buffer.from(sealer('blake3')(Buffer.from(expected, 'hex'))).toString('hex'));
  });

  it('is as small as what lies in it', () => {
    const bitmap = new DirtyBitmap(2 ** 46, 4096);
    bitmap.set(0, 2 ** 45 + 4096);
    bitmap.set(2 ** 46 - 1, 1);
    expect(bitmap.serialize().length).toBeLessThan(120);
  });

  it('is refused when any bit of it is wrong, or any byte is missing', () => {
    const bytes = Buffer.from(small().serialize());
    same(DirtyBitmap.deserialize(bytes), small());
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const wrong = Buffer.from(bytes);
      wrong[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => DirtyBitmap.deserialize(wrong)).toThrow(damaged);
    }
    for (let length = 0; length < bytes.length; length++) {
      expect(() => DirtyBitmap.deserialize(bytes.subarray(0, length))).toThrow(damaged);
    }
    expect(() => DirtyBitmap.deserialize(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(damaged);
  });

  it.each<[string, (bytes: Buffer) => void]>([
    ['a later version', (bytes) => bytes.writeUInt32LE(2, 8)],
    ['more records than there are', (bytes) => bytes.writeUInt32LE(2 ** 32 - 1, 12)],
    ['fewer records than there are', (bytes) => bytes.writeUInt32LE(1, 12)],
    ['a length past all numbers', (bytes) => bytes.writeBigUInt64LE(2n ** 63n, 16)],
    ['a shorter length', (bytes) => bytes.writeBigUInt64LE(4096n, 16)],
    ['a granularity of no power', (bytes) => bytes.writeBigUInt64LE(9n, 24)],
    ['a granularity of nothing', (bytes) => bytes.writeBigUInt64LE(0n, 24)],
    ['a record that is not aligned', (bytes) => bytes.writeBigUInt64LE(8n, 32)],
    ['a record past the end', (bytes) => bytes.writeBigUInt64LE(4096n * 1000n, 32)],
    ['a record past all numbers', (bytes) => bytes.writeBigUInt64LE(2n ** 64n - 1n, 32)],
    ['an empty record', (bytes) => bytes.writeBigUInt64LE(0n, 40)],
    ['a record of more bits than a leaf has', (bytes) => bytes.writeBigUInt64LE(8192n, 40)],
    ['a record of more flips than bits', (bytes) => bytes.writeUInt16LE(4097, 44)],
    ['a record of what nobody knows', (bytes) => bytes.writeUInt16LE(1, 46)],
    ['flips that go back', (bytes) => bytes.writeUInt16LE(6, 48)],
    ['flips past the end', (bytes) => bytes.writeUInt16LE(4097, 50)],
    ['flips at one place', (bytes) => bytes.writeUInt16LE(5, 48)],
    ['a run that overlaps', (bytes) => bytes.writeBigUInt64LE((1n << 63n) | 20000n, 40)],
  ])('is refused when it claims %s under a right seal', (_name, change) => {
    expect(() => DirtyBitmap.deserialize(forged(change))).toThrow(damaged);
  });

  it('takes little memory for little bytes, whatever these claim', () => {
    const huge = forged(
      (bytes) => bytes.writeBigUInt64LE(2n ** 53n - 1n, 16),
      Buffer.from(new DirtyBitmap(0, 1).serialize()),
    );
    expect(DirtyBitmap.deserialize(huge)).toMatchObject({ granules: 2 ** 53 - 1, isClean: true });
  });

  it.each([1, 2])('never does anything else than to refuse or to take random bytes, seed %i', (seed) => {
    const random = seededRandom(seed);
    const original = Buffer.from(small().serialize());
    for (let turn = 0; turn < 2000; turn++) {
      const bytes = forged((body) => {
        for (let change = random.integer(1, 4); change > 0; change--) {
          body[random.integer(8, random.oneIn(2) ? 60 : body.length - 1)] = random.oneIn(2)
            ? 0
            : random.integer(0, 255);
        }
      }, Buffer.from(original));
      try {
        DirtyBitmap.deserialize(bytes);
      } catch (error) {
        expect(error).toEqual(damaged);
      }
    }
  });
});
