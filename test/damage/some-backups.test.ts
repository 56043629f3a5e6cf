// SPDX-License-Identifier: MIT
// Verifying some of the backups: all that they need is read, wherever it lies, and damage that is met on the way is told
// with the names of all whom it concerns.

import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { verifyDatastore } from '#vmar/src/archive/verify/verify-datastore.js';
import { CLUSTER, World } from '../archive/world.js';
import { scratchDirectory } from '../base/scratch.js';
import { type Anatomy, dissect } from './anatomy.js';
import { inWords, whileFlipped } from './lanes.js';
import { backUp, diskOf, FANOUT, filled, makeTinyStore, NEIGHBOUR, NIGHT_1, NIGHT_2 } from './tiny-store.js';
import { dropIndex } from './truth.js';

const base = scratchDirectory();
let world: World;
let anatomy: Anatomy;

beforeAll(async () => {
  world = await makeTinyStore(join(base, 'original'));
  anatomy = dissect(world.root);
});

async function verify(of: World, ...backups: string[]): Promise<VerifyReport> {
  const store = await of.open();
  try {
    return await verifyDatastore(store, { backups, mode: 'full', portable: false, workers: 0 });
  } finally {
    await store.close();
  }
}

describe('verify of one backup', () => {
  it('finds what concerns it, and names the others', async () => {
    // The cluster that two guests share lies in the first night's pack.
    const part = anatomy.parts.find((candidate) => candidate.isData && candidate.backups.size === 3)!;
    await whileFlipped(part.file, part.from, 0xff, async () => {
      for (const name of [NIGHT_1, NIGHT_2, NEIGHBOUR]) {
        const { damage } = await verify(world, name);
        expect(damage.map(({ backups }) => [...backups].sort())).toEqual([[...part.backups].sort()]);
        expect([...damage[0]!.disks].sort()).toEqual([...part.disks].sort());
      }
    });
  });

  it('names those who need what it does not, where that lies in a pack that it needs', async () => {
    const shared = anatomy.parts.find((candidate) => candidate.isData && candidate.backups.size === 3)!;
    const inIt = anatomy.parts.filter((candidate) => candidate.isData && candidate.file === shared.file);
    const part = inIt.find((candidate) => !candidate.backups.has(NEIGHBOUR))!;
    await whileFlipped(part.file, part.from, 0xff, async () => {
      const { damage } = await verify(world, NEIGHBOUR);
      expect(damage.map(({ backups }) => [...backups].sort())).toEqual([[...part.backups].sort()]);
    });
  });

  it('does not look into packs that it does not need', async () => {
    const part = anatomy.parts.find((candidate) => candidate.isData && [...candidate.backups].join() === NEIGHBOUR)!;
    await whileFlipped(part.file, part.from, 0xff, async () => {
      expect((await verify(world, NIGHT_1)).damage).toEqual([]);
      expect((await verify(world, NEIGHBOUR)).damage).toHaveLength(1);
    });
  });

  it('of a damaged manifest or sidecar names it', async () => {
    for (const name of ['manifest', 'sidecar'] as const) {
      const part = anatomy.parts.find((candidate) => candidate.name === name && candidate.backups.has(NIGHT_1))!;
      await whileFlipped(part.file, 60, 0xff, async () => {
        expect((await verify(world, NIGHT_1)).damage.map(({ kind }) => kind)).toEqual([name]);
        expect((await verify(world, NEIGHBOUR)).damage).toEqual([]);
      });
    }
  });

  it('reads a pack that its list does not have before it counts on it', async () => {
    const here = await World.create(join(base, 'here'), { mapFanout: FANOUT });
    const there = World.at(join(base, 'there'), here.options);
    cpSync(here.root, there.root, { recursive: true });
    const content = diskOf(CLUSTER, { 0: filled('both') });
    await backUp(here, { name: NIGHT_1, disks: [{ name: 'a', content }] });
    await backUp(there, {
      name: NEIGHBOUR,
      disks: [{ name: 'b', content: diskOf(2 * CLUSTER, { 1: filled('both') }) }],
    });
    for (const directory of ['packs', 'manifests']) {
      cpSync(join(there.root, directory), join(here.root, directory), { recursive: true });
    }
    const [first, second] = dissect(here.root).parts.filter((part) => part.isData);
    for (const hasIndex of [true, false]) {
      if (!hasIndex) dropIndex(here);
      await whileFlipped(first!.file, first!.from, 0xff, async () => {
        // The other copy is good, and is what the chunk is had from.
        for (const name of [NIGHT_1, NEIGHBOUR]) {
          const report = await verify(here, name);
          expect(
            report.damage.every(({ backups }) => backups.size === 0),
            inWords(report),
          ).toBe(true);
        }
        await whileFlipped(second!.file, second!.from, 0xff, async () => {
          for (const name of [NIGHT_1, NEIGHBOUR]) {
            const { damage } = await verify(here, name);
            expect(damage.map(({ file }) => file).sort()).toEqual([first!.file, second!.file].sort());
            for (const { backups } of damage) expect([...backups].sort()).toEqual([NIGHT_1, NEIGHBOUR]);
          }
        });
      });
    }
  });
});
