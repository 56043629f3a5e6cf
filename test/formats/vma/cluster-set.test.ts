// SPDX-License-Identifier: MIT
// The set of clusters seen, against a plain Set.

import { expect, it } from 'vitest';
import { ClusterSet } from '#vmar/formats/vma/cluster-set.js';
import { seededRandom } from '../../base/random.js';

const seed = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

it(`knows what was seen, and the first that was not (seed ${seed})`, () => {
  const random = seededRandom(seed);
  for (const clusters of [1, 7, 8, 9, 32767, 32768, 32769, 70_000]) {
    const budget = { leftBytes: 1 << 20 };
    const set = new ClusterSet(clusters, budget);
    const plain = new Set<number>();
    for (let round = 0; round < 3000; round++) {
      const cluster = random.integer(0, clusters - 1);
      expect(set.add(cluster)).toBe(plain.has(cluster) ? 'twice' : 'new');
      plain.add(cluster);
    }
    let first = 0;
    while (plain.has(first)) first++;
    expect(set.firstMissing()).toBe(first < clusters ? first : undefined);
    for (let cluster = clusters - 1; cluster >= 0; cluster--) if (!plain.has(cluster)) set.add(cluster);
    expect(set.firstMissing()).toBeUndefined();
    expect(set.size).toBe(clusters);
    expect(set.add(0)).toBe('twice');
    // All pages were given back.
    expect(budget.leftBytes).toBe(1 << 20);
  }
});

it('stops at its budget, and goes on when pages are complete', () => {
  const set = new ClusterSet(3 * 32768, { leftBytes: 4096 });
  expect(set.add(0)).toBe('new');
  expect(set.add(32768)).toBe('over-budget');
  for (let cluster = 1; cluster < 32768; cluster++) set.add(cluster);
  expect(set.add(32768)).toBe('new');
  expect(set.firstMissing()).toBe(32769);
});
