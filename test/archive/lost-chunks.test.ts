// SPDX-License-Identifier: MIT
// A lost pack: what it had is looked for in one pass through the other packs, however much that is and however many
// backups need it; the budget of a scheduled verify counts in that pass too, and no report is lost by it.

import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { DatastoreChunks } from '#vmar/src/archive/datastore-chunks.js';
import { followAll } from '#vmar/src/archive/verify/follow-all.js';
import type { LostChunks } from '#vmar/src/archive/verify/lost-chunks.js';
import { verifyDatastore } from '#vmar/src/archive/verify/verify-datastore.js';
import { SILENT } from '#vmar/src/base/log.js';
import { readDamage } from '#vmar/src/store/damage-list.js';
import { packIdOfPath, packPath } from '#vmar/src/store/layout.js';
import { listManifests } from '#vmar/src/store/manifests.js';
import { seededRandom } from '../base/random.js';
import { memoryDirectory } from '../crash/memory-directory.js';
import { packFiles } from '../crash/nights.js';
import { CLUSTER, World } from './world.js';

const scratch = memoryDirectory();
const CLUSTERS = 300;
const NIGHTS = 6;
const FIRST_SECONDS = 1_770_000_000;
const GUESTS = ['100', '200'];
let worlds = 0;

afterEach(() => vi.restoreAllMocks());

/** Guest 100's nights share what its first one stored; guest 200 has clusters of its own. */
async function worldOfNights(): Promise<World> {
  const world = await World.create(join(scratch, `world-${worlds++}`), { mapFanout: 16 });
  for (const [number, guest] of GUESTS.entries()) {
    const content = seededRandom(number).bytes(CLUSTERS * CLUSTER);
    for (let night = 0; night < NIGHTS; night++) {
      content.fill(night + 1, night * CLUSTER, night * CLUSTER + 100);
      await world.backup(guest, [{ name: 'd', content }], FIRST_SECONDS + night * 86_400);
    }
  }
  return world;
}

async function loseLargest(world: World, guest: string): Promise<string> {
  const { entries } = await listManifests(world.root);
  const [first] = entries.filter(({ ref }) => ref.guestId === guest);
  const paths = first!.manifest.packs.map((packId) => packPath(world.root, packId));
  const [largest] = paths.sort((a, b) => statSync(b).size - statSync(a).size);
  rmSync(largest!);
  return largest!;
}

async function verify(world: World, budgetMillis?: number) {
  const store = await world.open();
  try {
    const schedule = budgetMillis === undefined ? {} : { schedule: { olderThanMillis: 3_600_000, budgetMillis } };
    return await verifyDatastore(store, { mode: 'full', portable: false, workers: 0, ...schedule });
  } finally {
    await store.close();
  }
}

describe('verify of a datastore that lost a pack', () => {
  it('goes through the packs once for all that is missing, and names those who miss it', async () => {
    const world = await worldOfNights();
    const lost = await loseLargest(world, '100');
    const passes = vi.spyOn(DatastoreChunks.prototype, 'containers');
    const searches = vi.spyOn(DatastoreChunks.prototype, 'locateAll');
    const { damage, checked } = await verify(world);
    expect(damage.map(({ file, kind }) => [file, kind])).toEqual([[lost, 'missing-chunk']]);
    const [{ backups }] = damage as [(typeof damage)[0]];
    expect([...backups].every((name) => name.startsWith('vm/100/'))).toBe(true);
    expect(backups.size).toBe(NIGHTS);
    expect([checked.backups, checked.disks]).toEqual([2 * NIGHTS, 2 * NIGHTS]);
    expect([passes.mock.calls.length, searches.mock.calls.length]).toEqual([1, 0]);
  });

  it('counts the same as where nothing is lost', async () => {
    const world = await worldOfNights();
    const whole = await verify(world);
    await loseLargest(world, '200');
    const { checked } = await verify(world);
    expect(checked.mapPages).toBe(whole.checked.mapPages);
  });

  it('reports it whatever the budget, and comes to an end with each run a little further', async () => {
    const world = await worldOfNights();
    const lost = await loseLargest(world, '100');
    let left = 2 * NIGHTS;
    let runs = 0;
    for (; left > 0 && runs < 40; runs++) {
      const { schedule, damage } = await verify(world, 0);
      expect(schedule!.backupsLeft).toBeLessThan(left);
      left = schedule!.backupsLeft;
      for (const { backups } of damage) expect([...backups].some((name) => name.startsWith('vm/200/'))).toBe(false);
    }
    expect(left).toBe(0);
    const known = (await readDamage(world.root, SILENT)).packs.get(packIdOfPath(world.root, lost)!);
    expect(known).toMatchObject({ isGone: true });
    expect(new Set([...known!.touched].map((name) => name.split(':d')[0]))).toHaveProperty('size', NIGHTS);
    expect(packFiles(world).length).toBeGreaterThan(NIGHTS);
  });
});

describe('followAll', () => {
  /** Items below zero miss something until the pass. */
  function trial(items: number[], turns: number) {
    let asked = 0;
    let isLookedFor = false;
    const followed: number[] = [];
    const lost = {
      isFull: false,
      look: async (isOver: () => boolean) => {
        if (isOver()) return false;
        isLookedFor = true;
        return true;
      },
    } as unknown as LostChunks;
    const follow = async (item: number): Promise<boolean> => {
      followed.push(item);
      return item > 0 || isLookedFor;
    };
    return { run: followAll({ items, follow, lost, isOver: () => asked++ >= turns }), followed };
  }

  it.each([
    ['all', [1, -2, 3, -4], 99, [1, 3, -2, -4]],
    ['the first one, when there is no time at all', [1, 2, 3], 0, [1]],
    ['the first one, also when it misses something', [-1, 2, 3], 0, [-1]],
    ['none that would have to be looked for when time is over', [1, -2, 3], 2, [1, 3]],
  ])('follows %s', async (_, items, turns, done) => {
    expect(await trial(items, turns).run).toEqual(done);
  });
});
