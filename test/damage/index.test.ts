// SPDX-License-Identifier: MIT
// The chunk index is a cache that nobody believes: gone, cut, garbage, foreign, old or lying, it costs time, never data.

import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openDatastoreVault } from '#vmar/src/archive/datastore-vault.js';
import { openBackup } from '#vmar/src/archive/open-backup.js';
import { restoreBackup } from '#vmar/src/archive/restore.js';
import { toHex } from '#vmar/src/base/bytes.js';
import type { Log } from '#vmar/src/base/log.js';
import { ChunkIndex } from '#vmar/src/store/chunk-index.js';
import { ContainerReader } from '#vmar/src/store/container-reader.js';
import { openDatastore } from '#vmar/src/store/datastore.js';
import { packPath } from '#vmar/src/store/layout.js';
import { CLUSTER, World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import {
  backUp,
  diskOf,
  dumpSmallFrames,
  filled,
  makeTinyStore,
  NIGHT_1,
  TINY_BACKUPS,
  type TinyBackup,
  tinyBackup,
} from './tiny-store.js';
import { dropIndex, lostDisks } from './truth.js';

const base = scratchDirectory();
const random = seededRandom(99);
const NEXT = 'vm/100/2026-01-05T02:00:00Z';
/** Old content in new places, and new content. */
const next: TinyBackup = {
  name: NEXT,
  disks: [
    {
      name: 'a',
      content: diskOf(9 * CLUSTER, { 2: filled('one'), 3: filled('five'), 4: filled('new'), 7: filled('four') }),
    },
  ],
};

let original: World;
let worlds = 0;

beforeAll(async () => {
  original = await makeTinyStore(join(base, 'original'));
});

/** A copy of the datastore with an index of its own. */
async function copy(): Promise<World> {
  const world = World.at(join(base, `world${worlds++}`), original.options);
  cpSync(original.root, world.root, { recursive: true });
  await world.verify();
  return world;
}

function indexDirectory(world: World): string {
  return join(world.cacheDir, readdirSync(world.cacheDir)[0]!);
}

function dataFile(world: World): string {
  return join(indexDirectory(world), 'index', 'data.mdb');
}

class Ear implements Log {
  readonly said: string[] = [];
  info(text: string): void {
    this.said.push(text);
  }
  warn(text: string): void {
    this.said.push(text);
  }
  debug(): void {}
}

async function backUpNext(world: World, log: Log): Promise<void> {
  const store = await openDatastore(world.root, { cacheDir: world.cacheDir, log });
  const machine = world.machine();
  try {
    const vault = await openDatastoreVault(store, { namespace: '', guestId: '100' }, { waitSeconds: 0 });
    await dumpSmallFrames(vault, machine, '100', Date.parse('2026-01-05T02:00:00Z') / 1000, next.disks);
  } finally {
    await machine.close();
    await store.close();
  }
}

async function restoreNight1(world: World, log: Log): Promise<Buffer> {
  const store = await openDatastore(world.root, { cacheDir: world.cacheDir, log });
  const machine = world.machine();
  const target = join(world.base, 'said.raw');
  try {
    const backup = await openBackup(store, NIGHT_1);
    const options = { executor: machine.executor, overwrite: true, targetIsZero: false, allowDamaged: false };
    await restoreBackup(backup, [{ disk: 'a', target }], options).finally(async () => await backup.close());
    return readFileSync(target);
  } finally {
    await machine.close();
    await store.close();
  }
}

/** Everything works on a datastore with whatever index it has now; gives what the log said. */
async function everythingWorks(world: World, start: 'backup' | 'restore'): Promise<string[]> {
  const ear = new Ear();
  if (start === 'restore') {
    expect((await restoreNight1(world, ear)).equals(tinyBackup(NIGHT_1).disks[0]!.content)).toBe(true);
  }
  await backUpNext(world, ear);
  expect((await world.verify()).damage).toEqual([]);
  expect(await lostDisks(world, [...TINY_BACKUPS, next])).toEqual(new Set());
  // Not by the grace of the index: a new one must find all of it in the packs.
  dropIndex(world);
  expect((await world.verify()).damage).toEqual([]);
  expect(await lostDisks(world, [...TINY_BACKUPS, next])).toEqual(new Set());
  return ear.said;
}

describe.each(['backup', 'restore'] as const)('before a %s, an index', (start) => {
  it('that is gone is made again', async () => {
    const world = await copy();
    dropIndex(world);
    await everythingWorks(world, start);
  });

  it.each([0, 1, 100, 4096, 8191, 8192, 20000])(
    'that was cut to %i bytes is made again, which is said',
    async (length) => {
      const world = await copy();
      truncateSync(dataFile(world), length);
      expect((await everythingWorks(world, start)).join()).toContain('made anew');
    },
  );

  it('that is garbage, or zeros, is made again, which is said', async () => {
    for (const fill of [random.bytes(65536), new Uint8Array(65536)]) {
      const world = await copy();
      writeFileSync(dataFile(world), fill);
      expect((await everythingWorks(world, start)).join()).toContain('made anew');
    }
  });

  it('that has bytes changed in it is made again, which is said', async () => {
    const world = await copy();
    const bytes = readFileSync(dataFile(world));
    for (let n = 0; n < 200; n++) bytes[random.integer(0, bytes.length - 1)]! ^= 0xff;
    writeFileSync(dataFile(world), bytes);
    expect((await everythingWorks(world, start)).join()).toContain('made anew');
  });

  it('whose state file is garbage, or gone, is made again, which is said', async () => {
    for (const text of ['', 'garbage', '{}', '[1]', 'null', '{"schema":1,"store":"x","boot":"y","clean":7}']) {
      const world = await copy();
      writeFileSync(join(indexDirectory(world), 'index.state'), text);
      expect((await everythingWorks(world, start)).join()).toContain('made anew');
    }
  });

  it('of another datastore is made again, which is said', async () => {
    const world = await copy();
    const other = await makeTinyStore(join(base, `other${worlds++}`));
    const mine = indexDirectory(world);
    rmSync(mine, { recursive: true });
    renameSync(indexDirectory(other), mine);
    expect((await everythingWorks(world, start)).join()).toContain('made anew');
  });
});

describe('an index of another time', () => {
  it('that lacks packs finds them, and forgets those that are gone', async () => {
    const world = await copy();
    const early = World.at(join(base, `early${worlds++}`), original.options);
    // The same datastore as it was after the first night, with an index of then.
    cpSync(world.root, early.root, { recursive: true });
    await early.verify();
    const old = join(base, `old${worlds++}`);
    cpSync(early.cacheDir, old, { recursive: true, preserveTimestamps: true });
    await backUp(early, {
      name: 'vm/300/2026-01-01T00:00:00Z',
      disks: [{ name: 'c', content: filled('elsewhere', 2 * CLUSTER) }],
    });
    const added = readdirSync(join(early.root, 'packs')).filter((name) => !existsSync(join(world.root, 'packs', name)));
    expect(added.length).toBeGreaterThan(0);
    // An index that knows of packs this datastore never had: it was put back from a copy of before.
    rmSync(world.cacheDir, { recursive: true });
    renameSync(early.cacheDir, world.cacheDir);
    const same = { name: NEXT, disks: [{ name: 'a', content: filled('elsewhere', 2 * CLUSTER) }] };
    await backUp(world, same);
    dropIndex(world);
    expect((await world.verify()).damage).toEqual([]);
    expect(await lostDisks(world, [...TINY_BACKUPS, same])).toEqual(new Set());
    // And the other way round: an index from before packs were added.
    rmSync(early.cacheDir, { recursive: true, force: true });
    renameSync(old, early.cacheDir);
    expect((await early.verify()).damage).toEqual([]);
  });
});

/** A lie about a chunk: where the index says it is, by a pack's chunk table entry. */
type Lie = (entry: Buffer, number: number) => void;

const LIES: Record<string, Lie> = {
  'another frame': (entry, number) => entry.writeUInt32LE(number % 3, 32),
  'a frame past the table': (entry) => entry.writeUInt32LE(0xffffffff, 32),
  'another offset': (entry) => entry.writeUInt32LE(entry.readUInt32LE(36) + 1, 36),
  'an offset past the frame': (entry) => entry.writeUInt32LE(0xfffffff0, 36),
  'another length': (entry) => entry.writeUInt32LE(entry.readUInt32LE(40) - 1, 40),
  'no length': (entry) => entry.writeUInt32LE(0, 40),
  'an immense length': (entry) => entry.writeUInt32LE(0xffffffff, 40),
};

/** Puts entries of all packs into the index under the name of one, changed by a lie. */
async function lieTo(
  world: World,
  lie: Lie,
  underWhoseName: (packs: readonly string[], own: string) => string,
): Promise<void> {
  const store = await world.open();
  const packs = (await store.listPackIds()).sort();
  const index = await ChunkIndex.open(world.cacheDir, store.superblock);
  for (const packId of packs) {
    const reader = ContainerReader.open(packPath(world.root, packId));
    const entries = Buffer.from(reader.chunkPage(0));
    reader.close();
    for (let i = 0; i * 48 < entries.length; i++) lie(entries.subarray(i * 48, i * 48 + 48), i);
    await index.addPack(underWhoseName(packs, packId), random.bytes(16), [entries]);
  }
  await index.close();
  await store.close();
}

describe.each(['backup', 'restore'] as const)('before a %s, an index that lies', (start) => {
  it.each(Object.keys(LIES))('by giving %s is not believed', async (name) => {
    const world = await copy();
    await lieTo(world, LIES[name]!, (_, own) => own);
    await everythingWorks(world, start);
  });

  it('by giving another pack is not believed, and put right, which is said', async () => {
    const world = await copy();
    await lieTo(
      world,
      () => {},
      (packs, own) => packs[(packs.indexOf(own) + 1) % packs.length]!,
    );
    expect((await everythingWorks(world, start)).join()).toMatch(/index (was wrong|is out of date)/);
  });

  it('by giving a pack that is not there is not believed', async () => {
    const world = await copy();
    await lieTo(
      world,
      () => {},
      () => toHex(random.bytes(16)),
    );
    await everythingWorks(world, start);
  });

  it('by naming chunks that are nowhere makes nobody rest on them', async () => {
    const world = await copy();
    const store = await world.open();
    const [packId] = await store.listPackIds();
    const index = await ChunkIndex.open(world.cacheDir, store.superblock);
    // As many ids as one can think of: those of the next backup, of a datastore that has it.
    const elsewhere = await World.create(join(base, `elsewhere${worlds++}`), original.options);
    await backUp(elsewhere, next);
    const other = await elsewhere.open();
    for (const id of await other.listPackIds()) {
      const reader = ContainerReader.open(packPath(elsewhere.root, id));
      await index.addPack(packId!, random.bytes(16), [Buffer.from(reader.chunkPage(0))]);
      reader.close();
    }
    await other.close();
    await index.close();
    await store.close();
    await everythingWorks(world, start);
  });
});

describe('an index that was put right', () => {
  it('is right in the next run', async () => {
    const world = await copy();
    await lieTo(world, LIES['another offset']!, (_, own) => own);
    const ear = new Ear();
    await restoreNight1(world, ear);
    expect(ear.said.join()).toContain('put right');
    const again = new Ear();
    await restoreNight1(world, again);
    expect(again.said).toEqual([]);
  });
});
