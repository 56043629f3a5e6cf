// SPDX-License-Identifier: MIT
// What the report's pictures of disks show, against the disks themselves.

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { changesOfGuest, type DiskChanges, sharesOf } from '#vmar/src/archive/stats/changes.js';
import { OpenMaps } from '#vmar/src/archive/stats/open-maps.js';
import { listManifests } from '#vmar/src/store/manifests.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { randomDisk } from './random-disk.js';
import { CLUSTER, World } from './world.js';

const directory = scratchDirectory();
const seed = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 1e6));
const REGIONS = 7;

async function changesIn(world: World, mostBackups: number): Promise<DiskChanges[]> {
  const store = await world.open();
  const { entries } = await listManifests(world.root);
  const maps = await OpenMaps.open(store);
  try {
    return await changesOfGuest(maps, entries, { mostBackups, mostRegions: REGIONS });
  } finally {
    maps.close();
    await store.close();
  }
}

/** By region, which part of it lies in clusters that differ. */
function expectedShares(before: Uint8Array, after: Uint8Array, regionBytes: number): number[] {
  const shares: number[] = [];
  for (let from = 0; from < after.byteLength; from += regionBytes) {
    const end = Math.min(after.byteLength, from + regionBytes);
    let changed = 0;
    for (let at = from; at < end; at += CLUSTER) {
      const stop = Math.min(end, at + CLUSTER);
      const same =
        stop <= before.byteLength && Buffer.compare(before.subarray(at, stop), after.subarray(at, stop)) === 0;
      if (!same) changed += stop - at;
    }
    shares.push(changed / (end - from));
  }
  return shares;
}

describe('changes of a disk', () => {
  it(`are those between its nights, region by region (seed ${seed})`, async () => {
    const random = seededRandom(seed);
    const world = await World.create(join(directory, 'a'), { mapFanout: 16 });
    const nights = [randomDisk(seed, 50 * CLUSTER + 777)];
    for (let night = 1; night < 5; night++) {
      const content = nights.at(-1)!.slice();
      for (let change = random.integer(0, 5); change > 0; change--) {
        const at = random.integer(0, 49) * CLUSTER;
        content.set(random.bytes(100), at);
      }
      nights.push(content);
    }
    for (const [night, content] of nights.entries()) {
      await world.backup('100', [{ name: 'a', content }], 1_760_000_000 + night * 86_400);
    }
    const [all, ...others] = await changesIn(world, 10);
    expect(others).toEqual([]);
    expect(all).toMatchObject({ disk: 'a', sizeBytes: nights[0]!.byteLength, regionBytes: 8 * CLUSTER });
    expect(all!.changes.map(({ state }) => state)).toEqual(['first', ...Array(4).fill('compared')]);
    for (const [night, { shares, changedBytes }] of all!.changes.entries()) {
      if (night === 0) continue;
      const expected = expectedShares(nights[night - 1]!, nights[night]!, 8 * CLUSTER);
      expect(shares).toEqual(expected);
      const sum = expected.reduce(
        (bytes, share, at) => bytes + share * Math.min(8 * CLUSTER, nights[0]!.byteLength - at * 8 * CLUSTER),
        0,
      );
      expect(changedBytes).toBeCloseTo(sum, 3);
    }
    // The last two: each compared with the one before it.
    const [last] = await changesIn(world, 2);
    expect(last!.changes).toEqual(all!.changes.slice(-2));
  });

  it('are not made up where disks are new, longer or shorter', async () => {
    const world = await World.create(join(directory, 'b'));
    const content = randomDisk(3, 20 * CLUSTER);
    const longer = Buffer.concat([content, randomDisk(4, 10 * CLUSTER)]);
    await world.backup('100', [{ name: 'a', content }], 1000);
    await world.backup(
      '100',
      [
        { name: 'a', content: longer },
        { name: 'b', content },
      ],
      2000,
    );
    const changes = await changesIn(world, 5);
    expect(changes.map(({ disk, changes: nights }) => [disk, nights.map(({ state }) => state)])).toEqual([
      ['a', ['first', 'compared']],
      ['b', ['first']],
    ]);
    expect(changes[0]!.changes[1]).toMatchObject({ changedBytes: 10 * CLUSTER, shares: [0, 0, 0, 0, 1, 1] });
    expect(sharesOf([{ offsetBytes: 0, lengthBytes: 100 }], { sizeBytes: 40, regionBytes: 30 })).toEqual([1, 1]);
  });
});
