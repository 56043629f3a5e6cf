// SPDX-License-Identifier: MIT
// gc that is cut off, exhaustively: after every one of its file operations the process dies or the power goes. Every
// backup must be whole in what is left, the next backup must work, and the next gc must finish the work.

import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { collectGarbage, type GcReport } from '#vmar/src/archive/gc/collect.js';
import { parseBackupId } from '#vmar/src/store/backup-id.js';
import { forgetManifest } from '#vmar/src/store/manifests.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { CrashModel } from '../store/crash-model.js';
import { RecordingFs } from '../store/recording-fs.js';
import { crashImages, ImagePlace } from './crash-images.js';
import { memoryDirectory } from './memory-directory.js';
import { backUpNight, expectSound, expectSwept, type Night, nightOf, packFiles } from './nights.js';

const scratch = memoryDirectory();
const nights = Array.from({ length: 9 }, (_, night) => nightOf('100', night));
const other = nightOf('200', 1);

async function gc(world: World, mostUnused = 0.1): Promise<GcReport> {
  const store = await world.open();
  try {
    return await collectGarbage(store, { mostUnused, isDryRun: false, workers: 0 });
  } finally {
    await store.close();
  }
}

async function forget(world: World, forgotten: readonly Night[]): Promise<void> {
  const store = await world.open();
  for (const { id } of forgotten) await forgetManifest(store.fs, world.root, parseBackupId(id)!);
  await store.close();
}

/** A reader that runs while something is done. */
async function beside(world: World, action: () => Promise<unknown>): Promise<void> {
  const store = await world.open();
  const session = await store.beginSession('read');
  await action();
  await session.end();
  await store.close();
}

interface Scenario {
  readonly name: string;
  readonly prepare: (world: World) => Promise<void>;
  /** What is to be whole, always. */
  readonly kept: readonly Night[];
  /** What gc is to have done. */
  readonly done: (report: GcReport) => void;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: 'deletes packs that nobody needs',
    prepare: async (world) => {
      for (const night of [nights[0]!, other]) await backUpNight(world, night);
      await forget(world, [nights[0]!, other]);
      await backUpNight(world, nights[5]!);
    },
    kept: [nights[5]!],
    done: ({ deleted }) => expect(deleted.packs).toBeGreaterThan(1),
  },
  {
    name: 'rewrites packs that are partly unused',
    prepare: async (world) => {
      for (const night of [nights[0]!, nights[1]!, other]) await backUpNight(world, night);
      await forget(world, [nights[0]!]);
    },
    kept: [nights[1]!, other],
    done: ({ rewritten, written, deleted }) => {
      expect(rewritten.packs).toBeGreaterThan(0);
      expect(written.packs).toBeGreaterThan(0);
      expect(deleted.packs).toBeGreaterThanOrEqual(rewritten.packs);
    },
  },
  {
    name: 'joins small packs',
    prepare: async (world) => {
      for (const night of nights) await backUpNight(world, night);
    },
    kept: nights,
    done: ({ rewritten }) => expect(rewritten.packs).toBeGreaterThan(15),
  },
  {
    name: 'deletes what an earlier one condemned, and reprieves what is needed after all',
    prepare: async (world) => {
      for (const night of [nights[0]!, nights[3]!]) await backUpNight(world, night);
      await forget(world, [nights[0]!, nights[3]!]);
      await beside(world, async () => expect((await gc(world)).waiting.packs).toBeGreaterThan(1));
      // As a backup would be that knew of nothing: its manifest comes back, with all that it rests on.
      await backUpNight(world, other);
    },
    kept: [other],
    done: ({ deleted }) => expect(deleted.packs).toBeGreaterThan(1),
  },
];

let worlds = 0;

async function telling(story: string, look: () => Promise<void>): Promise<void> {
  try {
    await look();
  } catch (error) {
    throw new Error(`${story}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

describe('a crash anywhere in a gc that', () => {
  it.each(SCENARIOS)(
    '$name',
    async ({ prepare, kept, done }) => {
      const base = join(scratch, `world-${worlds++}`);
      const world = await World.create(base);
      await prepare(world);
      const saved = `${base}-before`;
      cpSync(world.root, saved, { recursive: true });
      const fs = new RecordingFs(new RealFs(), world.root);
      done(await gc(World.at(base, { fs })));
      await expectSound(world, { kept });
      const mostPacks = packFiles(world).length;
      const recording = { start: () => CrashModel.of(saved), operations: fs.operations };
      const place = new ImagePlace(`${scratch}/images-${worlds}`, 'store', world.cacheDir);
      let images = 0;
      for (const { story, base: image } of crashImages(place, recording, seededRandom(3))) {
        images++;
        place.addCache(image, images);
        await telling(story, async () => {
          const left = World.at(image);
          await expectSound(left, { kept });
          const next = nightOf('100', 20);
          if (images % 2 === 0) await backUpNight(left, next);
          const report = await gc(left);
          expect(report).toMatchObject({ damaged: [], missingChunks: 0, waiting: { packs: 0 } });
          expectSwept(left);
          await expectSound(left, { kept: images % 2 === 0 ? [...kept, next] : kept });
          // What is left of small packs may be too few to be joined again, of data and of maps.
          if (images % 2 === 1) expect(packFiles(left).length).toBeLessThanOrEqual(mostPacks + 2 * 7);
        });
      }
      expect(images).toBeGreaterThan(recording.operations.length / 2);
    },
    180_000,
  );
});
