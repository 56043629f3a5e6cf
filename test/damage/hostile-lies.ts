// SPDX-License-Identifier: MIT
// What a broken or a hostile program could write under good seals: packs and maps, each with one lie in it.

import { compress } from 'zstd-napi';
import { CLUSTER } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { type ForgedChunk, type ForgedContainer, idOf, pageOf } from './forge.js';
import { filled } from './tiny-store.js';

const random = seededRandom(5);

export interface Lie {
  readonly packs: readonly ForgedContainer[];
  readonly sizeBytes: number;
  readonly mapRoot: Uint8Array;
  readonly mapFanout?: number;
}

export function data(bytes: Uint8Array): ForgedChunk {
  return { bytes, kind: 0 };
}

export function page(level: number, bytes: Uint8Array): ForgedChunk {
  return { bytes, kind: level };
}

export function pack(
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

export const content = filled('hostile');
export const contentId = idOf(0, content);

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

export const LIES: Record<string, () => Lie> = {
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

/** Lies of which no backup need be told. */
export const HARMLESS: ReadonlySet<string> = new Set([
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
export const RESTORABLE: ReadonlySet<string> = new Set([
  ...HARMLESS,
  'a chunk table that says another kind',
  'a chunk table that says an unknown kind',
]);
