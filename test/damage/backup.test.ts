// SPDX-License-Identifier: MIT
// Backing up into a datastore that is damaged: the guest's next backup is made, is right, and rests on nothing that was
// seen to be damaged.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openDatastoreVault } from '#vmar/src/archive/datastore-vault.js';
import { openDatastore } from '#vmar/src/store/datastore.js';
import { CLUSTER, type World } from '../archive/world.js';
import { scratchDirectory } from '../base/scratch.js';
import { type Anatomy, dissect, type Part } from './anatomy.js';
import { inLanes, inWords, type Lane, whileFlipped } from './lanes.js';
import { diskOf, dumpSmallFrames, filled, makeTinyStore, NIGHT_1, TINY_BACKUPS, tinyBackup } from './tiny-store.js';
import { dropIndex, lostDisks } from './truth.js';

const base = scratchDirectory();
const NIGHT_3 = 'vm/100/2026-01-03T02:00:00Z';
let world: World;
let anatomy: Anatomy;

beforeAll(async () => {
  world = await makeTinyStore(join(base, 'original'), TINY_BACKUPS.slice(0, 1));
  anatomy = dissect(world.root);
});

/** Backs up guest 100 a third time; gives what the log said. */
async function thirdNight(lane: Lane, content: Uint8Array): Promise<string[]> {
  const said: string[] = [];
  const log = { info: (text: string) => said.push(text), warn: (text: string) => said.push(text), debug: () => {} };
  const store = await openDatastore(lane.world.root, { cacheDir: lane.world.cacheDir, log });
  const machine = lane.world.machine();
  try {
    const vault = await openDatastoreVault(store, { namespace: '', guestId: '100' }, { waitSeconds: 0 });
    await dumpSmallFrames(vault, machine, '100', Date.parse('2026-01-03T02:00:00Z') / 1000, [{ name: 'a', content }]);
  } finally {
    await machine.close();
    await store.close();
  }
  return said;
}

const unchanged = tinyBackup(NIGHT_1).disks[0]!.content;
const changed = diskOf(unchanged.byteLength, {
  0: filled('one'),
  5: filled('nine'),
  17: unchanged.subarray(17 * CLUSTER),
});

let copies = 0;

/** Each task on a copy of its own: a backup cannot be taken back. */
async function complaints(
  parts: readonly Part[],
  work: (lane: Lane, part: Part) => Promise<string | undefined>,
): Promise<string[]> {
  const all: string[] = [];
  for (const part of parts) all.push(...(await inLanes(world, join(base, `copy${copies++}`), [part], work, 1)));
  return all.slice(0, 10);
}

describe.each([
  ['an unchanged disk', unchanged],
  ['a changed disk', changed],
])('the backup of %s', (_, content) => {
  it('is made whatever structure of the one before is damaged, and needs nothing that was seen to be', {
    timeout: 300_000,
  }, async () => {
    const parts = anatomy.parts.filter((part) => part.name !== 'superblock');
    const work = async (lane: Lane, part: Part): Promise<string | undefined> => {
      const where = `${part.name} of ${part.file.slice(-12)} at ${part.from}`;
      const at = (part.from + part.to) >>> 1;
      return await whileFlipped(lane.here(part.file), at, 0xff, async () => {
        const said = await thirdNight(lane, content);
        dropIndex(lane.world);
        const lost = await lostDisks(lane.world, [{ name: NIGHT_3, disks: [{ name: 'a', content }] }]);
        const report = await lane.world.verify();
        const isNamed = report.damage.some((record) => record.backups.has(NIGHT_3));
        // Data are not read again before they are counted on; whatever else the backup rests on is.
        const mayBeLost = part.isData || part.name.endsWith('page');
        if (lost.size > 0 && !mayBeLost)
          return `${where}: the new backup is lost: ${said.join('; ')}: ${inWords(report)}`;
        if (lost.size > 0 && !isNamed) return `${where}: the new backup is lost, and verify does not say so`;
        return undefined;
      });
    };
    expect(await complaints(parts, work)).toEqual([]);
  });
});

describe('damage that the next backup meets', () => {
  it('in the map of the one before ends the comparison, is said, and is made good', async () => {
    const frames = anatomy.parts.filter((part) => part.name === 'frame' && !part.isData && part.disks.size > 0);
    expect(frames.length).toBeGreaterThan(0);
    const work = async (lane: Lane, part: Part): Promise<string | undefined> =>
      await whileFlipped(lane.here(part.file), part.from, 0xff, async () => {
        const said = await thirdNight(lane, unchanged);
        const { disks } = tinyBackup(NIGHT_1);
        const lost = await lostDisks(lane.world, [
          { name: NIGHT_3, disks },
          { name: NIGHT_1, disks },
        ]);
        const report = await lane.world.verify();
        // The pages were stored again, so both backups have good ones now.
        const isRight = lost.size === 0 && report.damage.length === 1 && report.damage[0]!.backups.size === 0;
        return isRight && said.some((text) => text.includes('damaged'))
          ? undefined
          : `${[...lost]} ${said} ${inWords(report)}`;
      });
    expect(await complaints(frames, work)).toEqual([]);
  });

  it('in the one manifest there was is said', async () => {
    const work = async (lane: Lane, part: Part): Promise<string | undefined> =>
      await whileFlipped(lane.here(part.file), 50, 0xff, async () => {
        const said = await thirdNight(lane, changed);
        return said.some((text) => text.includes('manifest')) ? undefined : said.join('; ');
      });
    const manifests = anatomy.parts.filter((part) => part.name === 'manifest');
    expect(readFileSync(manifests[0]!.file).length).toBeGreaterThan(50);
    expect(await complaints(manifests, work)).toEqual([]);
  });
});
