// SPDX-License-Identifier: MIT
// Crashes, exhaustively: the file operations of each kind of change are recorded, and after every one of them the process
// dies or the power goes. Whatever is left must hold all that it held, and be good for the next backup.

import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { VmarError } from '#vmar/src/base/errors.js';
import { type BackupRef, parseBackupId } from '#vmar/src/store/backup-id.js';
import { openDatastore } from '#vmar/src/store/datastore.js';
import { initDatastore } from '#vmar/src/store/init.js';
import { forgetManifest, readManifest } from '#vmar/src/store/manifests.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { readSidecar, writeSidecar } from '#vmar/src/store/sidecars.js';
import { CLUSTER, World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';

import { CrashModel } from '../store/crash-model.js';
import { RecordingFs } from '../store/recording-fs.js';
import { crashImages, ImagePlace, type Recording } from './crash-images.js';
import { memoryDirectory } from './memory-directory.js';
import { backUpNight, expectSound, expectSwept, leaveDeadSession, type Night, nightOf } from './nights.js';

const scratch = memoryDirectory();
const INIT = {
  clusterSizeBytes: CLUSTER,
  hash: 'blake3',
  mapFanout: 128,
  timeSeconds: 1000,
  createdBy: 'test',
} as const;
const first = nightOf('100', 0);
const second = nightOf('100', 1);
const other = nightOf('200', 0);

interface Scenario {
  readonly name: string;
  readonly before: readonly Night[];
  /** Done to the datastore after these backups. */
  readonly prepare?: (world: World) => void;
  /** The change that is cut off. */
  readonly change: (world: World) => Promise<unknown>;
  /** What is there in any case, what may be, and what must and must not be once the change is done. */
  readonly kept: readonly Night[];
  readonly open: readonly Night[];
  readonly after: readonly Night[];
  /** More to look at. */
  readonly check?: (world: World, isDone: boolean) => Promise<void>;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: 'a first backup',
    before: [],
    change: async (world) => await backUpNight(world, first),
    ...{ kept: [], open: [first], after: [first] },
  },
  {
    name: 'a second backup, compared with the first',
    before: [first],
    change: async (world) => await backUpNight(world, second),
    ...{ kept: [first], open: [second], after: [first, second] },
  },
  {
    name: 'the first backup of another guest, deduplicated',
    before: [first],
    change: async (world) => await backUpNight(world, other),
    ...{ kept: [first], open: [other], after: [first, other] },
  },
  {
    name: 'a backup that sweeps up after a dead one',
    before: [first],
    prepare: leaveDeadSession,
    change: async (world) => await backUpNight(world, second),
    ...{ kept: [first], open: [second], after: [first, second] },
  },
  {
    name: 'a forget',
    before: [first, second],
    change: async (world) => {
      await forgetManifest(world.options.fs!, world.root, refOf(second));
    },
    ...{ kept: [first], open: [second], after: [first] },
  },
  {
    name: 'a forget of a backup with labels',
    before: [first, second],
    change: async (world) => {
      await label(world, second, 'old');
      await forgetManifest(world.options.fs!, world.root, refOf(second));
    },
    ...{ kept: [first], open: [second], after: [first] },
  },
  {
    name: 'a change of labels',
    before: [first],
    change: async (world) => {
      await label(world, first, 'old');
      await label(world, first, 'new');
    },
    ...{ kept: [first], open: [], after: [first] },
    check: async (world, isDone) => {
      const found = await labelOf(world, first);
      expect(isDone ? ['new'] : [undefined, 'old', 'new']).toContain(found);
    },
  },
];

function refOf(night: Night): BackupRef {
  return parseBackupId(night.id)!;
}

async function label(world: World, night: Night, value: string): Promise<void> {
  const store = await world.open();
  const session = await store.beginSession('maintenance');
  const { digest } = await readManifest(world.root, refOf(night));
  const sidecar = { manifestDigest: digest, labels: new Map([['label', value]]), notes: '', isProtected: false };
  await writeSidecar(store, session, refOf(night), sidecar, 'blake3');
  await session.end();
  await store.close();
}

async function labelOf(world: World, night: Night): Promise<string | undefined> {
  const { digest } = await readManifest(world.root, refOf(night));
  return (await readSidecar(world.root, refOf(night), digest))?.labels.get('label');
}

interface RecordingWithCache extends Recording {
  readonly cache: string;
}

let worlds = 0;

/** A datastore that holds these backups, and the operations of a change to it. */
async function record(scenario: Pick<Scenario, 'before' | 'prepare' | 'change'>): Promise<RecordingWithCache> {
  const { before, prepare, change } = scenario;
  const base = join(scratch, `world-${worlds++}`);
  const world = await World.create(base);
  for (const night of before) await backUpNight(world, night);
  prepare?.(world);
  const saved = `${base}-before`;
  cpSync(world.root, saved, { recursive: true });
  const fs = new RecordingFs(new RealFs(), world.root);
  await change(World.at(base, { fs }));
  return { start: () => CrashModel.of(saved), operations: fs.operations, cache: world.cacheDir };
}

/** The machine comes up again: everything is there, and the next backup works, whoever died. */
async function expectGoesOn(world: World, kept: readonly Night[], open: readonly Night[]): Promise<void> {
  const there = await expectSound(world, { kept, open });
  const next = nightOf('100', 1);
  const id = await backUpNight(world, next);
  expect(there).not.toContain(id);
  expectSwept(world);
  const added = { ...next, id };
  const listed = await expectSound(world, { kept: [...kept, added], open });
  expect(listed.length).toBe(there.length + 1);
}

async function telling(story: string, look: () => Promise<void>): Promise<void> {
  try {
    await look();
  } catch (error) {
    throw new Error(`${story}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

describe('a crash anywhere in', () => {
  it.each(SCENARIOS)('$name', async (scenario) => {
    const recording = await record(scenario);
    // One index for all images: to each it knows packs that are not there, and lacks others.
    const place = new ImagePlace(`${scratch}/images`, 'store', recording.cache);
    const { kept, open, after, check } = scenario;
    let images = 0;
    for (const { count, story, base } of crashImages(place, recording, seededRandom(1))) {
      images++;
      place.addCache(base, images);
      const isDone = count === recording.operations.length;
      await telling(story, async () => {
        const world = World.at(base);
        await check?.(world, isDone);
        await expectGoesOn(world, isDone ? after : kept, isDone ? [] : open);
      });
    }
    expect(images).toBeGreaterThan(recording.operations.length / 2);
  });
});

it('a crash anywhere in init leaves a datastore, or what the next init completes', async () => {
  const base = join(scratch, 'init');
  mkdirSync(base);
  const fs = new RecordingFs(new RealFs(), base);
  await initDatastore(join(base, 'store'), INIT, fs);
  const place = new ImagePlace(`${scratch}/init-images`, '', undefined);
  const recording = { start: () => CrashModel.empty(), operations: fs.operations };
  let made = 0;
  for (const { count, story, base: image } of crashImages(place, recording, seededRandom(2))) {
    place.addCache(image, 0);
    await telling(story, async () => {
      const world = World.at(image);
      const found = await tryOpen(world);
      if (found !== 'open') {
        made++;
        expect(count).toBeLessThan(fs.operations.length);
        expect(['not-a-datastore', 'superblock-missing']).toContain(found);
        await initDatastore(world.root, INIT);
      }
      expect(readdirSync(world.root).sort()).toEqual(['datastore.pb', 'locks', 'manifests', 'packs', 'state', 'tmp']);
      await expectGoesOn(world, [], []);
    });
  }
  expect(made).toBeGreaterThan(5);
});

async function tryOpen(world: World): Promise<string> {
  try {
    await (await openDatastore(world.root, { cacheDir: world.cacheDir })).close();
    return 'open';
  } catch (error) {
    return error instanceof VmarError ? error.code : String(error);
  }
}

// A pack's name is there for everyone before it is durable. Who builds on it must not rely on its maker, who may be dead.
it('a backup that was done stays whole in a power cut, though it builds on what a killed one left', async () => {
  const recording = await record({ before: [first], change: async (world) => await backUpNight(world, second) });
  const sameDisks: Night = { ...nightOf('300', 1), disks: second.disks };
  for (let count = 0; count <= recording.operations.length; count++) {
    const killed = join(scratch, `killed-${count}`);
    const model = recording.start();
    for (const operation of recording.operations.slice(0, count)) model.apply(operation);
    mkdirSync(killed);
    model.materialize(join(killed, 'store'), 'all');
    const fs = new RecordingFs(new RealFs(), join(killed, 'store'));
    await backUpNight(World.at(killed, { fs }), sameDisks);
    for (const operation of fs.operations) model.apply(operation);
    const cut = join(scratch, `cut-${count}`);
    mkdirSync(cut);
    model.materialize(join(cut, 'store'), 'durable');
    await telling(`killed after ${count} operations, then a backup, then a power cut`, async () => {
      await expectSound(World.at(cut), { kept: [first, sameDisks], open: [second] });
    });
    for (const path of [killed, cut]) rmSync(path, { recursive: true });
  }
});
