// SPDX-License-Identifier: MIT

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { clusterCount, mapLevels, pageCount, pageEntries, ZERO_ID } from '#vmar/formats/vmar/map.js';

const KIB = 1024;

describe('the map of a disk', () => {
  it.each([
    // size, cluster size, fan-out, clusters, levels
    [0, 64 * KIB, 128, 0, 0],
    [1, 64 * KIB, 128, 1, 1],
    [64 * KIB, 64 * KIB, 128, 1, 1],
    [64 * KIB + 1, 64 * KIB, 128, 2, 1],
    [128 * 64 * KIB, 64 * KIB, 128, 128, 1],
    [128 * 64 * KIB + 1, 64 * KIB, 128, 129, 2],
    [128 * 128 * 64 * KIB, 64 * KIB, 128, 16384, 2],
    [128 * 128 * 64 * KIB + 1, 64 * KIB, 128, 16385, 3],
    [16 ** 7 * 64 * KIB, 64 * KIB, 16, 16 ** 7, 7],
    [16 ** 7 * 64 * KIB + 1, 64 * KIB, 16, 16 ** 7 + 1, 8],
    [Number.MAX_SAFE_INTEGER, 64 * KIB, 128, 2 ** 37, 6],
    [Number.MAX_SAFE_INTEGER, 64 * KIB, 4096, 2 ** 37, 4],
  ])(
    'of %i bytes in clusters of %i and pages of %i has %i clusters and %i levels',
    (size, cluster, fanout, k, levels) => {
      expect(clusterCount(size, cluster)).toBe(k);
      expect(mapLevels(k, fanout)).toBe(levels);
      if (levels > 0) expect(pageCount(levels, k, fanout)).toBe(1);
    },
  );

  it('has short last pages', () => {
    expect(pageCount(1, 300, 128)).toBe(3);
    expect([0, 1, 2].map((page) => pageEntries(1, page, 300, 128))).toEqual([128, 128, 44]);
    expect(pageEntries(2, 0, 300, 128)).toBe(3);
    expect(pageEntries(1, 0, 128, 128)).toBe(128);
  });

  it('has for each page and cluster one entry in the level above', () => {
    const fanouts = fc.integer({ min: 4, max: 12 }).map((bits) => 2 ** bits);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), fanouts, (clusters, fanout) => {
        const levels = mapLevels(clusters, fanout);
        for (let level = 1; level <= levels; level++) {
          const pages = pageCount(level, clusters, fanout);
          let entries = 0;
          for (let page = 0; page < pages; page++) {
            const inPage = pageEntries(level, page, clusters, fanout);
            expect(inPage).toBeGreaterThan(0);
            expect(inPage).toBeLessThanOrEqual(fanout);
            if (page < pages - 1) expect(inPage).toBe(fanout);
            entries += inPage;
          }
          expect(entries).toBe(pageCount(level - 1, clusters, fanout));
        }
        expect(pageCount(levels, clusters, fanout)).toBe(1);
        if (levels > 1) expect(pageCount(levels - 1, clusters, fanout)).toBeGreaterThan(1);
      }),
      { numRuns: 60 },
    );
  });

  it('has 32 zero bytes in place of what is all zero', () => {
    expect(ZERO_ID).toEqual(new Uint8Array(32));
  });
});
