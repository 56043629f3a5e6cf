// SPDX-License-Identifier: MIT
// A host that never saw a datastore: a reader of one backup enters the tables of that backup's packs into the index, and not
// those of all others, and finds what lies elsewhere all the same.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { lookAtBackup, openBackup } from '#vmar/src/archive/open-backup.js';
import { ChunkIndex } from '#vmar/src/store/chunk-index.js';
import { listManifests } from '#vmar/src/store/manifests.js';
import { seededRandom } from '../base/random.js';
import { memoryDirectory } from '../crash/memory-directory.js';
import { CLUSTER, World } from './world.js';

const scratch = memoryDirectory();
const GUESTS = 6;
const FIRST_SECONDS = 1_770_000_000;

function diskOf(guest: number): Uint8Array {
  return seededRandom(guest).bytes(5 * CLUSTER);
}

async function worldOf(name: string): Promise<World> {
  const world = await World.create(join(scratch, name));
  for (let guest = 0; guest < GUESTS; guest++) {
    await world.backup(`${guest}`, [{ name: 'd', content: diskOf(guest) }], FIRST_SECONDS + guest);
  }
  rmSync(world.cacheDir, { recursive: true });
  return world;
}

/** Without bringing it up to date. */
async function inIndex(world: World): Promise<Set<string>> {
  const store = await world.open();
  try {
    return (await store.index(new Set())).packs();
  } finally {
    await store.close();
  }
}

describe('an index that is empty', () => {
  it('takes in what the reader of a backup needs, and the rest when a backup is made', async () => {
    const world = await worldOf('reader');
    const { entries } = await listManifests(world.root);
    const { content } = await world.restore('3/latest', 'd');
    expect(content.equals(diskOf(3))).toBe(true);
    const named = entries.find(({ ref }) => ref.guestId === '3')!.manifest.packs;
    expect([...(await inIndex(world))].sort()).toEqual([...named].sort());
    const again = await world.backup('new', [{ name: 'd', content: diskOf(4) }], FIRST_SECONDS + 100);
    expect(again.disks[0]).toMatchObject({ newBytes: 0 });
    for (const { manifest } of entries) {
      const known = await inIndex(world);
      for (const packId of manifest.packs) expect(known.has(packId)).toBe(true);
    }
  });

  it('takes in everything at once for who reads one backup after another', async () => {
    const world = await worldOf('copies');
    const looked = vi.spyOn(ChunkIndex.prototype, 'reconcile');
    const store = await world.open();
    for (let guest = 0; guest < GUESTS; guest++) await (await openBackup(store, `${guest}/latest`)).close();
    const { length } = await store.listPackIds();
    expect((await store.index()).packs().size).toBe(length);
    await store.close();
    expect(looked).toHaveBeenCalledTimes(3);
    looked.mockRestore();
  });

  it('is not made for what the index is not needed for', async () => {
    const world = await worldOf('facts');
    const store = await world.open();
    expect(await lookAtBackup(store, '2/latest')).toMatchObject({ manifest: { guestId: '2' } });
    await store.close();
    expect(await inIndex(world)).toEqual(new Set());
  });
});
