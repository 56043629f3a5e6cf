// SPDX-License-Identifier: MIT
// Containers and manifests with any content, right or wrong, under good seals.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { compress } from 'zstd-napi';
import { encodeContainerHeader } from '#vmar/formats/vmar/container-header.js';
import { type ChunkEntry, type ExtentContent, encodeExtentHead, type FrameEntry } from '#vmar/formats/vmar/extent.js';
import { NO_FEATURES } from '#vmar/formats/vmar/features.js';
import { chunkContext, createHasher, sealer } from '#vmar/formats/vmar/hash.js';
import { encodeManifest, type Manifest, type ManifestDisk } from '#vmar/formats/vmar/manifest.js';
import {
  CHUNKS_PER_PAGE,
  encodeFooter,
  encodeTableChunk,
  encodeTableFrame,
  type Footer,
  FRAMES_PER_PAGE,
  sealTablePage,
  TABLE_CHUNK_BYTES,
  TABLE_FRAME_BYTES,
} from '#vmar/formats/vmar/trailer.js';
import { parseBackupId } from '#vmar/src/store/backup-id.js';
import { manifestPath, packPath } from '#vmar/src/store/layout.js';
import { CLUSTER } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { FANOUT } from './tiny-store.js';

const HASH = 'blake3';
const seal = sealer(HASH);
const random = seededRandom(4242);

export interface ForgedChunk {
  readonly bytes: Uint8Array;
  readonly kind: number;
  /** In place of the true one. */
  readonly id?: Uint8Array;
}

export interface ForgedFrame {
  readonly chunks: readonly ForgedChunk[];
  /** In place of what the chunks compress to. */
  readonly stored?: Uint8Array;
}

export interface ForgedContainer {
  readonly use?: 'pack' | 'archive';
  readonly extents: readonly { readonly content: ExtentContent; readonly frames: readonly ForgedFrame[] }[];
  /** Changes the head of an extent; its seal is made after it. */
  readonly onHead?: (head: Buffer, extent: number) => void;
  /** Changes an entry of a table; the seals are made after it. */
  readonly onTableChunk?: (entry: Buffer, index: number) => void;
  readonly onTableFrame?: (entry: Buffer, index: number) => void;
  readonly onFooter?: (footer: Buffer) => void;
  readonly manifestExtent?: number;
}

export function idOf(kind: number, bytes: Uint8Array): Uint8Array {
  return createHasher(HASH, chunkContext(kind)).digest(bytes);
}

/** A map page from its ids; ids that are left out are zero. */
export function pageOf(entries: number, ids: Readonly<Record<number, Uint8Array>>): Buffer {
  const page = Buffer.alloc(entries * 32);
  for (const [at, id] of Object.entries(ids)) page.set(id, Number(at) * 32);
  return page;
}

function storeFrame({ chunks, stored }: ForgedFrame): { entry: FrameEntry; bytes: Uint8Array } {
  const raw = Buffer.concat(chunks.map((chunk) => chunk.bytes));
  const squeezed = stored ?? compress(raw);
  const bytes = squeezed.byteLength < raw.length ? squeezed : raw;
  const codec = bytes === raw ? (0 as const) : (1 as const);
  const shape = { storedBytes: bytes.byteLength, rawBytes: raw.length, chunkCount: chunks.length, codec };
  return { entry: { ...shape, seal: seal(bytes) }, bytes };
}

function entriesOf({ chunks }: ForgedFrame): ChunkEntry[] {
  return chunks.map(({ bytes, kind, id }) => {
    const trueId = kind === 255 ? bytes.subarray(-32) : id === undefined ? idOf(kind, bytes) : id;
    return { id: id ?? trueId, lengthBytes: bytes.byteLength, kind, disk: 65535, where: 0 };
  });
}

/** The bytes of a container, and its id. */
export function forgeContainer(wish: ForgedContainer, storeUuid: Uint8Array): { id: Uint8Array; bytes: Buffer } {
  const id = random.bytes(16);
  const use = wish.use ?? 'pack';
  const header = encodeContainerHeader({
    ...{ use, features: NO_FEATURES, containerId: id, clusterSizeBytes: CLUSTER, hash: HASH, content: 'both' },
    ...{ storeUuid: use === 'pack' ? storeUuid : new Uint8Array(16), writerId: new Uint8Array(16) },
    ...{ mapFanout: FANOUT, createdSeconds: 1 },
  });
  const pieces: Uint8Array[] = [header];
  let offset = header.byteLength;
  const tableChunks: Buffer[] = [];
  const tableFrames: Buffer[] = [];
  const extentOffsets: number[] = [];
  let rawBytes = 0;
  for (const [sequence, { content, frames }] of wish.extents.entries()) {
    const stored = frames.map(storeFrame);
    const chunks = frames.flatMap(entriesOf);
    const extent = {
      content,
      containerId: id,
      offsetBytes: offset,
      sequence,
      chunks,
      frames: stored.map(({ entry }) => entry),
    };
    const head = Buffer.from(encodeExtentHead(extent, HASH));
    wish.onHead?.(head, sequence);
    head.set(seal(head.subarray(0, 80), head.subarray(96)), 80);
    extentOffsets.push(offset);
    let at = offset + head.length;
    for (const [n, { entry, bytes }] of stored.entries()) {
      const frame = tableFrames.length;
      const row = Buffer.alloc(TABLE_FRAME_BYTES);
      encodeTableFrame({ ...entry, offsetBytes: at }, row, 0);
      tableFrames.push(row);
      at += bytes.byteLength;
      if (content <= 2) rawBytes += tabulate(tableChunks, entriesOf(frames[n]!), frame);
    }
    pieces.push(head, ...stored.map(({ bytes }) => bytes));
    offset = at;
  }
  tableChunks.sort((a, b) => a.compare(b, 0, 32, 0, 32));
  for (const [index, entry] of tableChunks.entries()) wish.onTableChunk?.(entry, index);
  for (const [index, entry] of tableFrames.entries()) wish.onTableFrame?.(entry, index);
  const chunkTable = pagesOf(tableChunks, CHUNKS_PER_PAGE, id, offset);
  const frameTable = pagesOf(tableFrames, FRAMES_PER_PAGE, id, offset + chunkTable.length);
  const footer: Footer = {
    ...{ containerId: id, chunkCount: tableChunks.length, frameCount: tableFrames.length, chunkTableOffset: offset },
    frameTableOffset: offset + chunkTable.length,
    fileBytes: offset + chunkTable.length + frameTable.length + 128,
    manifestExtentOffset: wish.manifestExtent === undefined ? 0 : extentOffsets[wish.manifestExtent]!,
    ...{ extentCount: wish.extents.length, rawBytes },
  };
  const tail = Buffer.from(encodeFooter(footer, HASH));
  wish.onFooter?.(tail);
  tail.set(seal(tail.subarray(0, 112)), 112);
  return { id, bytes: Buffer.concat([...pieces, chunkTable, frameTable, tail]) };
}

function tabulate(table: Buffer[], chunks: readonly ChunkEntry[], frame: number): number {
  let offsetBytes = 0;
  for (const { id, lengthBytes, kind } of chunks) {
    const row = Buffer.alloc(TABLE_CHUNK_BYTES);
    encodeTableChunk({ id, frame, offsetBytes, lengthBytes, kind }, row, 0);
    table.push(row);
    offsetBytes += lengthBytes;
  }
  return offsetBytes;
}

function pagesOf(entries: readonly Buffer[], perPage: number, containerId: Uint8Array, tableOffset: number): Buffer {
  const pieces: Uint8Array[] = [];
  let offset = tableOffset;
  for (let at = 0; at < entries.length; at += perPage) {
    const page = Buffer.concat(entries.slice(at, at + perPage));
    pieces.push(page, sealTablePage(HASH, containerId, offset, page));
    offset += page.length + 16;
  }
  return Buffer.concat(pieces);
}

/** Puts a pack into a datastore; gives its path. */
export function plantPack(root: string, storeUuid: Uint8Array, wish: ForgedContainer): string {
  const { id, bytes } = forgeContainer(wish, storeUuid);
  const path = packPath(root, Buffer.from(id).toString('hex'));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
  return path;
}

export interface ForgedBackup {
  readonly name: string;
  readonly sizeBytes: number;
  readonly mapRoot: Uint8Array;
  readonly mapFanout?: number;
}

/** A manifest of one disk, `d`. */
export function forgeManifest(
  { name, sizeBytes, mapRoot, mapFanout = FANOUT }: ForgedBackup,
  storeUuid: Uint8Array,
): Uint8Array {
  const { namespace, guestId, timeSeconds } = parseBackupId(name)!;
  const none = new Uint8Array(0);
  const counts = { readBytes: 0, zeroBytes: 0, unchangedBytes: 0, newBytes: 0, storedBytes: 0 };
  const disk: ManifestDisk = {
    ...{ name: 'd', kind: 'disk', sizeBytes, clusterSizeBytes: CLUSTER, mapRoot },
    ...{ bitmapName: '', fullReason: '', forceShared: false },
    ...counts,
  };
  const manifest: Manifest = {
    ...{ namespace, guestType: 'vm', guestId, guestName: '', guestUuid: none, timeSeconds, sequence: 1 },
    ...{ previousDigest: none, source: 'image', sourceUuid: none, disks: [disk], configs: [], consistency: 'offline' },
    ...{ packs: [], writerId: new Uint8Array(16), writer: 'forger', storeUuid, hash: HASH, mapFanout },
    ...{ startedMillis: 0, finishedMillis: 0 },
  };
  return encodeManifest(manifest);
}

export function plantManifest(root: string, storeUuid: Uint8Array, backup: ForgedBackup): string {
  const path = manifestPath(root, parseBackupId(backup.name)!);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, forgeManifest(backup, storeUuid));
  return path;
}
