// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest';
import { firstRun } from '#vmar/src/jobs/mirror-copy.js';
import { mirrorGranularity } from '#vmar/src/jobs/mirror-granularity.js';

describe('the granularity of a mirror', () => {
  it.each([
    [1, undefined, 65536],
    [512, undefined, 4096],
    [4096, undefined, 4096],
    [16384, undefined, 16384],
    [1 << 20, undefined, 65536],
    [1, 512, 4096],
    [1, 32768, 32768],
    [4096, 2 << 20, 65536],
    [1, 12_000, 16384],
  ])('for an alignment of %i and clusters of %s is %i', (targetAlignmentBytes, targetClusterBytes, expected) => {
    const cluster = targetClusterBytes === undefined ? {} : { targetClusterBytes };
    expect(mirrorGranularity({ targetAlignmentBytes, ...cluster })).toBe(expected);
  });

  it('is what the caller chooses', () => {
    const wish = { targetAlignmentBytes: 1, targetClusterBytes: 65536 };
    expect(mirrorGranularity({ ...wish, granularityBytes: 512 })).toBe(512);
    expect(mirrorGranularity({ ...wish, granularityBytes: 64 * 2 ** 20 })).toBe(64 * 2 ** 20);
    for (const granularityBytes of [0, -1, 256, 4097, 2 ** 27, Number.NaN, 2.5]) {
      expect(() => mirrorGranularity({ ...wish, granularityBytes })).toThrow('a power of two');
    }
  });
});

describe('the first run of a range', () => {
  const extents = (...parts: [number, 'data' | 'zero'][]) => {
    let at = 1000;
    return parts.map(([lengthBytes, state]) => {
      at += lengthBytes;
      return { offsetBytes: at - lengthBytes, lengthBytes, state };
    });
  };
  const range = { offsetBytes: 1000, lengthBytes: 95 };

  it.each([
    ['zeros in whole units', extents([35, 'zero'], [60, 'data']), { state: 'zero', lengthBytes: 30 }],
    ['zeros to the end', extents([95, 'zero']), { state: 'zero', lengthBytes: 95 }],
    ['data to the end', extents([95, 'data']), { state: 'data', lengthBytes: 95 }],
    ['data up to a whole zero unit', extents([12, 'data'], [20, 'zero']), { state: 'data', lengthBytes: 20 }],
    ['a short hole is copied', extents([12, 'data'], [17, 'zero'], [40, 'data']), { state: 'data', lengthBytes: 70 }],
    ['a short hole before data', extents([7, 'zero'], [20, 'data']), { state: 'data', lengthBytes: 30 }],
    ['holes side by side are one', extents([10, 'data'], [5, 'zero'], [5, 'zero']), { state: 'data', lengthBytes: 10 }],
    ['less than is known of', extents([3, 'zero']), { state: 'data', lengthBytes: 10 }],
  ] as const)('%s', (_name, found, expected) => {
    expect(firstRun(range, found, 10, 1000)).toEqual(expected);
  });

  it('is not longer than an operation, but a unit at least', () => {
    expect(firstRun(range, extents([95, 'data']), 10, 45)).toEqual({ state: 'data', lengthBytes: 40 });
    expect(firstRun(range, extents([95, 'data']), 10, 5)).toEqual({ state: 'data', lengthBytes: 10 });
  });
});
