// SPDX-License-Identifier: MIT
// Lies under good seals: written by a broken program, or by someone who means harm. None crashes, hangs or takes memory
// without bound; each is damage, and is nobody else's.

import { cpSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { compress } from 'zstd-napi';
import { openArchive } from '#vmar/src/archive/open-backup.js';
import { verifyArchive } from '#vmar/src/archive/verify/verify-archive.js';
import { DamageError, FailedError } from '#vmar/src/base/errors.js';
import { CLUSTER, World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import {
  type ForgedChunk,
  type ForgedContainer,
  forgeContainer,
  forgeManifest,
  idOf,
  pageOf,
  plantManifest,
  plantPack,
} from './forge.js';
import { inWords } from './lanes.js';
import { restoreTo } from './restoring.js';
import { filled, makeTinyStore, TINY_BACKUPS } from './tiny-store.js';
import { dropIndex, lostDisks } from './truth.js';

const base = scratchDirectory();
const random = seededRandom(5);
const HOSTILE = 'vm/666/2026-01-01T00:00:00Z';
let worlds = 0;

interface Lie {
  readonly packs: readonly ForgedContainer[];
  readonly sizeBytes: number;
  readonly mapRoot: Uint8Array;
  readonly mapFanout?: number;
}

function data(bytes: Uint8Array): ForgedChunk {
  return { bytes, kind: 0 };
}

function page(level: number, bytes: Uint8Array): ForgedChunk {
  return { bytes, kind: level };
}

function pack(
  dataChunks: readonly ForgedChunk[],
  pages: readonly ForgedChunk[],
  lies: Partial<ForgedContainer> = {},
): ForgedContainer {
  const extents = [
    ...(dataChunks.length === 0 ? [] : [{ content: 1 as const, frames: [{ chunks: dataChunks }] }]),
    ...(pages.length === 0 ? [] : [{ content: 2 as const, frames: pages.map((chunk) => ({ chunks: [chunk] })) }]),
  ];
  return { extents, ...lies };
}

const content = filled('hostile');
const contentId = idOf(0, content);

/** A disk of two clusters, the second zero, that is as it should be but for some lies. */
function smallDisk(lies: Partial<ForgedContainer>): Lie {
  const leaf = pageOf(2, { 0: contentId });
  return { packs: [pack([data(content)], [page(1, leaf)], lies)], sizeBytes: 2 * CLUSTER, mapRoot: idOf(1, leaf) };
}

/** A disk with a map as it is given, lowest pages first. */
function mapped(
  sizeBytes: number,
  chunks: readonly ForgedChunk[],
  pages: readonly ForgedChunk[],
  mapFanout?: number,
): Lie {
  const root = pages.at(-1)!;
  const lie = { packs: [pack(chunks, pages)], sizeBytes, mapRoot: idOf(root.kind, root.bytes) };
  return mapFanout === undefined ? lie : { ...lie, mapFanout };
}

function leafOfLeaf(): Lie {
  const inner = pageOf(2, { 0: contentId });
  return mapped(2 * CLUSTER, [data(content)], [page(1, inner), page(1, pageOf(2, { 0: idOf(1, inner) }))]);
}

function treeOfData(): Lie {
  return mapped(20 * CLUSTER, [data(content)], [page(2, pageOf(2, { 0: contentId, 1: contentId }))]);
}

/** The same bytes as a page and as a cluster, so that their content passes for either. */
function pageAsCluster(): Lie {
  const inner = pageOf(16, { 0: contentId });
  return mapped(20 * CLUSTER, [data(content), data(inner)], [page(2, pageOf(2, { 0: idOf(0, inner) }))]);
}

function tooManyLevels(): Lie {
  const leaf = pageOf(2, { 0: contentId });
  return mapped(2 * CLUSTER, [data(content)], [page(1, leaf), page(2, pageOf(1, { 0: idOf(1, leaf) }))]);
}

function tooFewLevels(): Lie {
  return mapped(17 * CLUSTER, [data(content)], [page(1, pageOf(16, { 0: contentId }))]);
}

function shortPage(): Lie {
  return mapped(3 * CLUSTER, [data(content)], [page(1, pageOf(2, { 0: contentId }))]);
}

function longPage(): Lie {
  return mapped(2 * CLUSTER, [data(content)], [page(1, pageOf(3, { 0: contentId }))]);
}

function ragged(): Lie {
  const leaf = Buffer.concat([pageOf(2, { 0: contentId }), Buffer.alloc(7)]);
  return mapped(2 * CLUSTER, [data(content)], [page(1, leaf)]);
}

function shortCluster(): Lie {
  const bytes = filled('short', 100);
  return mapped(2 * CLUSTER, [data(bytes)], [page(1, pageOf(2, { 0: idOf(0, bytes) }))]);
}

function longTail(): Lie {
  return mapped(CLUSTER + 5, [data(content)], [page(1, pageOf(2, { 1: contentId }))]);
}

function nowhere(): Lie {
  return mapped(2 * CLUSTER, [], [page(1, pageOf(2, { 0: random.bytes(32) }))]);
}

function immense(sizeBytes: number): Lie {
  return mapped(sizeBytes, [data(content)], [page(1, pageOf(2, { 0: contentId }))], 256);
}

/** A petabyte, all of it named by six pages: each a page of the same ids. */
function selfSimilar(): Lie {
  const pages: ForgedChunk[] = [];
  const clusters = 16 ** 7;
  let id: Uint8Array = random.bytes(32);
  for (let level = 1; level <= 7; level++) {
    const bytes = Buffer.concat(Array.from({ length: 16 }, () => id));
    pages.push(page(level, bytes));
    id = idOf(level, bytes);
  }
  return mapped(clusters * CLUSTER, [], pages);
}

/** One zstd frame that says it holds 4 GiB. */
function bomb(): Buffer {
  const frame = Buffer.alloc(9 + 4 + 3);
  frame.writeUInt32LE(0xfd2fb528, 0);
  frame[4] = 0b1000_0000 | 0b0010_0000;
  frame.writeUInt32LE(0xffffffff, 5);
  frame.writeUInt8(0b1, 9);
  return frame.subarray(0, 12);
}

function storedAs(stored: Uint8Array): Lie {
  const leaf = pageOf(2, { 0: contentId });
  const extents = [
    { content: 1 as const, frames: [{ chunks: [data(content)], stored }] },
    { content: 2 as const, frames: [{ chunks: [page(1, leaf)] }] },
  ];
  return { packs: [{ extents }], sizeBytes: 2 * CLUSTER, mapRoot: idOf(1, leaf) };
}

function wrongContent(): Lie {
  const leaf = pageOf(2, { 0: contentId });
  const chunk = { bytes: filled('something else'), kind: 0, id: contentId };
  return { packs: [pack([chunk], [page(1, leaf)])], sizeBytes: 2 * CLUSTER, mapRoot: idOf(1, leaf) };
}

const U32 = 0xffffffff;
/** The data chunk's and its frame's entries are found by their ids and numbers: frame 0 holds it. */
const ofData = (change: (entry: Buffer) => void) => (entry: Buffer) => {
  if (entry.subarray(0, 32).equals(contentId)) change(entry);
};
const ofFirst = (change: (entry: Buffer) => void) => (entry: Buffer, index: number) => {
  if (index === 0) change(entry);
};

const LIES: Record<string, () => Lie> = {
  'a leaf that names a page as a cluster': leafOfLeaf,
  'an upper page that names a cluster as a page': treeOfData,
  'a page that was stored as data': pageAsCluster,
  'a map of more levels than the disk has': tooManyLevels,
  'a map of fewer levels than the disk has': tooFewLevels,
  'a page that is too short': shortPage,
  'a page that is too long': longPage,
  'a page of no whole number of ids': ragged,
  'a cluster in the middle that is too short': shortCluster,
  'a last cluster that is too long': longTail,
  'a map that names what is nowhere': nowhere,
  'a disk of a tebibyte with a map of two clusters': () => immense(2 ** 40),
  'a disk of 8 PiB less one byte with a map of two clusters': () => immense(2 ** 53 - 1),
  'a map that is all the same page': selfSimilar,
  'a chunk table that says another frame': () =>
    smallDisk({ onTableChunk: ofData((entry) => entry.writeUInt32LE(1, 32)) }),
  'a chunk table that says a frame that is not there': () =>
    smallDisk({ onTableChunk: ofData((entry) => entry.writeUInt32LE(U32, 32)) }),
  'a chunk table that says an offset past the frame': () =>
    smallDisk({ onTableChunk: ofData((entry) => entry.writeUInt32LE(CLUSTER, 36)) }),
  'a chunk table that says an impossible offset': () =>
    smallDisk({ onTableChunk: ofData((entry) => entry.writeUInt32LE(U32, 36)) }),
  'a chunk table that says another length': () =>
    smallDisk({ onTableChunk: ofData((entry) => entry.writeUInt32LE(77, 40)) }),
  'a chunk table that says no length': () => smallDisk({ onTableChunk: ofData((entry) => entry.writeUInt32LE(0, 40)) }),
  'a chunk table that says a length of 4 GiB': () =>
    smallDisk({ onTableChunk: ofData((entry) => entry.writeUInt32LE(U32, 40)) }),
  'a chunk table that says another kind': () =>
    smallDisk({ onTableChunk: ofData((entry) => entry.writeUInt32LE(1, 44)) }),
  'a chunk table that says an unknown kind': () =>
    smallDisk({ onTableChunk: ofData((entry) => entry.writeUInt32LE(200, 44)) }),
  'a chunk table that does not name the chunk': () =>
    smallDisk({ onTableChunk: ofData((entry) => entry.fill(0xee, 0, 32)) }),
  'a chunk table that names nothing right': () => smallDisk({ onTableChunk: (entry) => entry.fill(0xff) }),
  'a frame table that says another offset': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.writeUInt32LE(300, 0)) }),
  'a frame table that says an offset past the file': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.writeUInt32LE(1, 4)) }),
  'a frame table that says an offset past all numbers': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.fill(0xff, 0, 8)) }),
  'a frame table that says a stored length of 4 GiB': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.writeUInt32LE(U32, 8)) }),
  'a frame table that says a raw length of 4 GiB': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.writeUInt32LE(U32, 12)) }),
  'a frame table that says 4 GiB for both': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.fill(0xff, 8, 16)) }),
  'a frame table that says another raw length': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.writeUInt32LE(CLUSTER - 1, 12)) }),
  'a frame table that says a raw length of 4 MiB': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.writeUInt32LE(4 << 20, 12)) }),
  'a frame table that says 16 MiB': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.writeUInt32LE(16 << 20, 12)) }),
  'a frame table that says another codec': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.writeUInt8(0, 20)) }),
  'a frame table that says an unknown codec': () =>
    smallDisk({ onTableFrame: ofFirst((entry) => entry.writeUInt8(9, 20)) }),
  'a frame table that says another seal': () => smallDisk({ onTableFrame: ofFirst((entry) => entry.fill(1, 24)) }),
  'a frame table that names nothing right': () => smallDisk({ onTableFrame: (entry) => entry.fill(0xff) }),
  'a footer that counts other extents': () => smallDisk({ onFooter: (footer) => footer.writeUInt32LE(1, 72) }),
  'a footer that counts other bytes': () => smallDisk({ onFooter: (footer) => footer.writeUInt32LE(CLUSTER, 80) }),
  'a footer that counts 2^60 chunks': () => smallDisk({ onFooter: (footer) => footer.writeUInt32LE(1 << 28, 28) }),
  'a footer that counts 2^40 frames': () => smallDisk({ onFooter: (footer) => footer.writeUInt32LE(1 << 8, 36) }),
  'a footer with the tables elsewhere': () => smallDisk({ onFooter: (footer) => footer.writeUInt32LE(256, 40) }),
  'a footer with a manifest in the middle of data': () =>
    smallDisk({ onFooter: (footer) => footer.writeUInt32LE(300, 64) }),
  'an extent of a frame of 4 GiB': () =>
    smallDisk({ onHead: (head, extent) => extent === 0 && head.writeUInt32LE(U32, 96 + 48 + 4) }),
  'an extent of a chunk of 4 GiB': () =>
    smallDisk({ onHead: (head, extent) => extent === 0 && head.writeUInt32LE(U32, 96 + 32) }),
  'an extent of 2^32 chunks': () =>
    smallDisk({ onHead: (head, extent) => extent === 0 && head.writeUInt32LE(U32, 36) }),
  'an extent that claims 64 MiB': () =>
    smallDisk({ onHead: (head, extent) => extent === 0 && head.writeUInt32LE(64 << 20, 44) }),
  'an extent of manifests': () => smallDisk({ onHead: (head, extent) => extent === 0 && head.writeUInt8(3, 4) }),
  'a zstd frame that claims 4 GiB': () => storedAs(bomb()),
  'a zstd frame that holds less': () => storedAs(compress(content.subarray(1))),
  'a zstd frame that holds more': () => storedAs(compress(Buffer.alloc(4 << 20, 'more'))),
  'two zstd frames in one': () =>
    storedAs(Buffer.concat([compress(content.subarray(9)), compress(content.subarray(0, 9))])),
  'a frame of noise': () => storedAs(random.bytes(1000)),
  'a chunk of another content': wrongContent,
};

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

/** Lies of which no backup need be told. */
const HARMLESS: ReadonlySet<string> = new Set([
  'a footer that counts other extents',
  'a footer that counts other bytes',
  'a footer with a manifest in the middle of data',
  'an extent of a frame of 4 GiB',
  'an extent of a chunk of 4 GiB',
  'an extent of 2^32 chunks',
  'an extent that claims 64 MiB',
  'an extent of manifests',
  'two zstd frames in one',
]);

/** Lies that a restore need not look at, since an index or an extent's head tells the truth or the bytes do. */
const RESTORABLE: ReadonlySet<string> = new Set([
  ...HARMLESS,
  'a chunk table that says another kind',
  'a chunk table that says an unknown kind',
]);

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
