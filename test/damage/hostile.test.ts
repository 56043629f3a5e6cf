// SPDX-License-Identifier: MIT
// Lies under good seals: written by a broken program, or by someone who means harm. None crashes, hangs or takes memory
// without bound; each is damage, and is nobody else's.

import { cpSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openArchive } from '#vmar/src/archive/open-backup.js';
import { verifyArchive } from '#vmar/src/archive/verify/verify-archive.js';
import { DamageError, FailedError } from '#vmar/src/base/errors.js';
import { CLUSTER, World } from '../archive/world.js';
import { scratchDirectory } from '../base/scratch.js';
import {
  type ForgedContainer,
  forgeContainer,
  forgeManifest,
  idOf,
  pageOf,
  plantManifest,
  plantPack,
} from './forge.js';
import { content, contentId, data, HARMLESS, LIES, type Lie, pack, page, RESTORABLE } from './hostile-lies.js';
import { inWords } from './lanes.js';
import { restoreTo } from './restoring.js';
import { filled, makeTinyStore, TINY_BACKUPS } from './tiny-store.js';
import { dropIndex, lostDisks } from './truth.js';

const base = scratchDirectory();
const HOSTILE = 'vm/666/2026-01-01T00:00:00Z';
let worlds = 0;
let honest: World;

beforeAll(async () => {
  honest = await makeTinyStore(join(base, 'honest'));
});

/** A copy of the honest datastore. */
async function copy(): Promise<{ world: World; storeUuid: Uint8Array }> {
  const world = World.at(join(base, `world${worlds++}`), honest.options);
  cpSync(honest.root, world.root, { recursive: true });
  const store = await world.open();
  await store.close();
  return { world, storeUuid: store.superblock.storeUuid };
}

/** Three honest backups, and one with a lie in it. */
async function plant(lie: Lie): Promise<World> {
  const { world, storeUuid } = await copy();
  for (const wish of lie.packs) plantPack(world.root, storeUuid, wish);
  plantManifest(world.root, storeUuid, { name: HOSTILE, ...lie });
  return world;
}

/** More than anything here should take. */
const MOST_BYTES = 300 << 20;

describe('a lie under good seals', () => {
  it.each(Object.keys(LIES))('is found out: %s', async (name) => {
    const world = await plant(LIES[name]!());
    const before = process.memoryUsage().rss;
    for (const mode of ['quick', 'full'] as const) {
      const report = await world.verify(mode);
      const concerned = new Set(report.damage.flatMap((record) => [...record.backups]));
      // What frames hold is not looked at by a quick check.
      const isUnseen = mode === 'quick' && /zstd|noise|another content/.test(name);
      if (!isUnseen) expect(report.damage, `${name}, ${mode}`).not.toEqual([]);
      for (const backup of TINY_BACKUPS) expect(concerned, inWords(report)).not.toContain(backup.name);
      if (!isUnseen && !HARMLESS.has(name)) expect([...concerned], inWords(report)).toEqual([HOSTILE]);
    }
    const target = join(world.base, 'target');
    for (const hasIndex of [true, false]) {
      if (!hasIndex) dropIndex(world);
      const error = await restoreTo(world, { backup: HOSTILE, targets: { d: target } }).catch(
        (reason: unknown) => reason,
      );
      if (error instanceof Error) {
        // A file system that takes no file of 8 PiB says so before anything is read.
        const isTooLarge = name.includes('8 PiB') || name.includes('same page');
        if (!(isTooLarge && error instanceof FailedError)) expect(error).toBeInstanceOf(DamageError);
        expect(existsSync(target)).toBe(false);
      } else expect([...RESTORABLE]).toContain(name);
      rmSync(target, { force: true });
    }
    expect(await lostDisks(world, TINY_BACKUPS)).toEqual(new Set());
    expect(process.memoryUsage().rss - before).toBeLessThan(MOST_BYTES);
  });
});

describe('a pack that claims the chunks of others', () => {
  it('with other content is found out, and nobody reads it from there', async () => {
    const { world, storeUuid } = await copy();
    const theirs = [filled('one'), filled('two'), filled('three')];
    const chunks = theirs.map((bytes) => ({ bytes: filled('poison'), kind: 0, id: idOf(0, bytes) }));
    const file = plantPack(world.root, storeUuid, pack(chunks, []));
    const { damage } = await world.verify();
    expect(damage.map((record) => [record.file, record.kind, record.backups.size])).toEqual([[file, 'chunk', 0]]);
    expect(await lostDisks(world, TINY_BACKUPS)).toEqual(new Set());
  });
});

describe('an archive whose footer lies', () => {
  const uuid = new Uint8Array(16);
  const leaf = pageOf(2, { 0: contentId });
  const backup = { name: HOSTILE, sizeBytes: 2 * CLUSTER, mapRoot: idOf(1, leaf) };
  const path = join(base, 'hostile.vmar');
  const options = { mode: 'full', portable: false, workers: 0 } as const;

  function put(manifestExtent: number | undefined, onFooter?: (footer: Buffer) => void): void {
    const prologue = forgeManifest({ ...backup, mapRoot: new Uint8Array(32) }, new Uint8Array(0));
    const manifest = forgeManifest(backup, new Uint8Array(0));
    const wish: ForgedContainer = {
      use: 'archive',
      extents: [
        { content: 4, frames: [{ chunks: [{ bytes: prologue, kind: 255 }] }] },
        { content: 1, frames: [{ chunks: [data(content)] }] },
        { content: 2, frames: [{ chunks: [page(1, leaf)] }] },
        { content: 3, frames: [{ chunks: [{ bytes: manifest, kind: 255 }] }] },
      ],
      ...(manifestExtent === undefined ? {} : { manifestExtent }),
      ...(onFooter === undefined ? {} : { onFooter }),
    };
    writeFileSync(path, forgeContainer(wish, uuid).bytes);
  }

  it('is a good one when it does not', async () => {
    put(3);
    expect((await verifyArchive(path, options)).damage).toEqual([]);
    await (await openArchive(path)).close();
  });

  it.each([
    ['no manifest', undefined],
    ['its prologue as the manifest', 0],
    ['data as the manifest', 1],
    ['a map page as the manifest', 2],
  ])('and gives %s is damaged', async (_, extent) => {
    put(extent);
    const { damage } = await verifyArchive(path, options);
    expect(damage.length).toBeGreaterThan(0);
    await expect(openArchive(path)).rejects.toBeInstanceOf(DamageError);
  });
});
