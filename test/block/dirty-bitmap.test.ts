// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { DirtyBitmap } from '#vmar/src/block/dirty-bitmap.js';
import { type Random, seededRandom } from '../base/random.js';

const GIB = 2 ** 30;
const TIB = 2 ** 40;

/** The same in the simplest way: a byte for each byte. */
class Model {
  readonly dirty: Uint8Array;

  constructor(
    readonly lengthBytes: number,
    readonly granularityBytes: number,
  ) {
    this.dirty = new Uint8Array(lengthBytes);
  }

  fill(from: number, to: number, value: number): void {
    if (from === to) return;
    const unit = this.granularityBytes;
    this.dirty.fill(value, Math.floor(from / unit) * unit, Math.ceil(to / unit) * unit);
  }

  next(from: number, to: number, value: number): number | undefined {
    const found = this.dirty.subarray(0, to).indexOf(value, from);
    return found < 0 ? undefined : found;
  }

  count(): number {
    return this.dirty.reduce((sum, value) => sum + value, 0);
  }
}

function randomRange(random: Random, lengthBytes: number): readonly [from: number, to: number] {
  const from = random.integer(0, lengthBytes);
  const most = [1, 100, 5000, 70_000, lengthBytes][random.integer(0, 4)]!;
  return [from, Math.min(lengthBytes, from + random.integer(0, most))];
}

function randomChange(random: Random, bitmap: DirtyBitmap, model: Model): void {
  const [from, to] = randomRange(random, bitmap.lengthBytes);
  const value = random.integer(0, 1);
  if (value === 1) bitmap.set(from, to - from);
  else bitmap.clear(from, to - from);
  model.fill(from, to, value);
}

function checkSearches(random: Random, bitmap: DirtyBitmap, model: Model): void {
  const [from, to] = randomRange(random, bitmap.lengthBytes);
  expect(bitmap.nextDirty(from, to)).toBe(model.next(from, to, 1));
  expect(bitmap.nextClean(from, to)).toBe(model.next(from, to, 0));
  const start = model.next(from, to, 1);
  const most = random.integer(1, 10_000);
  const end = start === undefined ? undefined : Math.min(to, start + most);
  const range = bitmap.nextDirtyRange(from, to, most);
  if (start === undefined || end === undefined) expect(range).toBeUndefined();
  else expect(range).toEqual({ offsetBytes: start, lengthBytes: (model.next(start, end, 0) ?? end) - start });
  if (from < bitmap.lengthBytes) expect(bitmap.get(from)).toBe(model.dirty[from] === 1);
}

const SHAPES = [
  [300_001, 1],
  [300_001, 4],
  [300_000, 64],
  [299_999, 65536],
  [4096 * 33 + 5, 1],
  [17, 1],
  [17, 32],
] as const;

describe('DirtyBitmap', () => {
  it.each(SHAPES.flatMap((shape) => [1, 2].map((seed) => [...shape, seed] as const)))(
    'is an array of flags: %i bytes, granularity %i, seed %i',
    (lengthBytes, granularityBytes, seed) => {
      const random = seededRandom(seed);
      const bitmap = new DirtyBitmap(lengthBytes, granularityBytes);
      const model = new Model(lengthBytes, granularityBytes);
      for (let step = 0; step < 300; step++) {
        randomChange(random, bitmap, model);
        checkSearches(random, bitmap, model);
        if (step % 10 !== 0) continue;
        expect(bitmap.dirtyBytes).toBe(model.count());
        expect(bitmap.isClean).toBe(model.count() === 0);
        expect(bitmap.isAllDirty).toBe(model.count() === lengthBytes);
      }
    },
  );

  it('counts the last granule at its true length', () => {
    const bitmap = new DirtyBitmap(10 * 4096 + 1, 4096);
    bitmap.set(10 * 4096, 1);
    expect(bitmap.dirtyBytes).toBe(1);
    bitmap.set(0, 1);
    expect(bitmap.dirtyBytes).toBe(4097);
    bitmap.set(0, bitmap.lengthBytes);
    expect(bitmap.dirtyBytes).toBe(bitmap.lengthBytes);
    expect(bitmap.granules).toBe(11);
  });

  it('may have no length', () => {
    const bitmap = new DirtyBitmap(0, 4096);
    bitmap.set(0, 0);
    expect([bitmap.dirtyBytes, bitmap.granules, bitmap.nextDirty(0), bitmap.nextClean(0)]).toEqual([
      0,
      0,
      undefined,
      undefined,
    ]);
    expect(bitmap.isAllDirty && bitmap.isClean).toBe(true);
    expect(DirtyBitmap.deserialize(bitmap.serialize()).lengthBytes).toBe(0);
  });

  it('refuses ranges that do not lie in it, and shapes that cannot be', () => {
    const bitmap = new DirtyBitmap(100, 8);
    for (const [at, length] of [
      [100, 1],
      [99, 2],
      [-1, 1],
      [0.5, 1],
      [0, -1],
    ] as const) {
      expect(() => bitmap.set(at, length)).toThrow(expect.objectContaining({ code: 'out-of-range' }));
      expect(() => bitmap.clear(at, length)).toThrow(expect.objectContaining({ code: 'out-of-range' }));
    }
    expect(() => bitmap.get(100)).toThrow(expect.objectContaining({ code: 'out-of-range' }));
    expect(() => bitmap.nextDirty(-5)).toThrow(expect.objectContaining({ code: 'out-of-range' }));
    for (const [length, granularity] of [
      [100, 3],
      [100, 0],
      [100, 0.5],
      [-1, 8],
      [1.5, 8],
    ] as const) {
      expect(() => new DirtyBitmap(length, granularity)).toThrow(expect.objectContaining({ code: 'bad-bitmap' }));
    }
  });

  it.each([1, 2, 3])('merges across granularities, seed %i', (seed) => {
    const random = seededRandom(seed);
    const lengthBytes = 200_003;
    for (const [mine, other] of [
      [64, 64],
      [64, 1024],
      [1024, 64],
      [1, 65536],
    ] as const) {
      const [a, b] = [new DirtyBitmap(lengthBytes, mine), new DirtyBitmap(lengthBytes, other)];
      const [modelA, modelB] = [new Model(lengthBytes, mine), new Model(lengthBytes, other)];
      for (let step = 0; step < 30; step++) {
        randomChange(random, a, modelA);
        randomChange(random, b, modelB);
      }
      a.merge(b);
      for (let at = 0; at < lengthBytes; at++) if (modelB.dirty[at] === 1) modelA.fill(at, at + 1, 1);
      expect(a.dirtyBytes).toBe(modelA.count());
      for (let step = 0; step < 100; step++) checkSearches(random, a, modelA);
      a.merge(a);
      expect(a.dirtyBytes).toBe(modelA.count());
    }
    expect(() => new DirtyBitmap(10, 1).merge(new DirtyBitmap(11, 1))).toThrow(/different lengths/);
  });

  it('gives a snapshot that lives on its own', () => {
    const bitmap = new DirtyBitmap(100 * 65536, 4);
    bitmap.set(5, 70_000);
    const snapshot = bitmap.snapshot();
    bitmap.clear(0, bitmap.lengthBytes);
    snapshot.set(4_000_000, 4);
    expect(bitmap.isClean).toBe(true);
    expect([...snapshot.ranges()]).toEqual([
      { offsetBytes: 4, lengthBytes: 70_004 },
      { offsetBytes: 4_000_000, lengthBytes: 4 },
    ]);
  });
});

describe('a bitmap of 64 TiB at 4 KiB', () => {
  // Each would take minutes to hours if a search walked granules, or if a set touched words.
  it('is searched at once when it is empty, full, or nearly so', () => {
    const length = 64 * TIB - 512;
    const bitmap = new DirtyBitmap(length, 4096);
    for (let turn = 0; turn < 10_000; turn++) {
      bitmap.set(length - 1, 1);
      expect(bitmap.nextDirty(turn * 4096)).toBe(64 * TIB - 4096);
      bitmap.clear(length - 1, 1);
      expect(bitmap.nextDirty(turn)).toBeUndefined();
    }
    for (let turn = 0; turn < 10_000; turn++) {
      bitmap.set(0, length);
      expect(bitmap.nextClean(turn)).toBeUndefined();
      bitmap.clear(40 * TIB + turn * GIB, 1);
      expect(bitmap.nextClean(turn * 4096)).toBe(40 * TIB + turn * GIB);
    }
    bitmap.set(0, length);
    expect(bitmap.dirtyBytes).toBe(length);
  });

  it('keeps what is scattered, and finds its way through it', () => {
    const bitmap = new DirtyBitmap(64 * TIB, 4096);
    const places = new Set<number>();
    const random = seededRandom(7);
    while (places.size < 20_000) places.add(random.integer(0, 2 ** 34 - 1) * 4096);
    for (const place of places) bitmap.set(place, 1);
    const sorted = [...places].sort((a, b) => a - b);
    expect([...bitmap.ranges()].map((range) => range.offsetBytes)).toEqual(sorted);
    expect(bitmap.dirtyBytes).toBe(20_000 * 4096);
    for (const place of sorted) bitmap.clear(place, 4096);
    expect(bitmap.isClean).toBe(true);
    expect(bitmap.serialize().length).toBeLessThan(100);
  });

  it('has its limit at 2^53 bytes in granules of one', () => {
    const length = Number.MAX_SAFE_INTEGER;
    const bitmap = new DirtyBitmap(length, 1);
    bitmap.set(length - 1, 1);
    bitmap.set(2 ** 52 + 1, 2);
    expect([...bitmap.ranges()]).toEqual([
      { offsetBytes: 2 ** 52 + 1, lengthBytes: 2 },
      { offsetBytes: length - 1, lengthBytes: 1 },
    ]);
    bitmap.set(0, length);
    expect(bitmap.dirtyBytes).toBe(length);
  });
});
