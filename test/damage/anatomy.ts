// SPDX-License-Identifier: MIT
// A datastore cut into its structures by the codecs and formats/vmar/SPEC.md alone, with who needs each of them: the
// truth that what verify says is compared with.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decompress } from 'zstd-napi';
import { CONTAINER_HEADER_BYTES, decodeContainerHeader } from '#vmar/formats/vmar/container-header.js';
import { decodeExtentHead, decodeExtentHeader, type Extent } from '#vmar/formats/vmar/extent.js';
import { decodeManifest, type Manifest } from '#vmar/formats/vmar/manifest.js';
import { clusterCount, mapLevels } from '#vmar/formats/vmar/map.js';
import {
  CHUNKS_PER_PAGE,
  decodeFooter,
  decodeTableChunk,
  decodeTableFrame,
  FOOTER_BYTES,
  FRAMES_PER_PAGE,
  TABLE_CHUNK_BYTES,
  TABLE_FRAME_BYTES,
  tablePageOffset,
} from '#vmar/formats/vmar/trailer.js';

export type PartName =
  | 'superblock'
  | 'manifest'
  | 'sidecar'
  | 'header'
  | 'extent head'
  | 'frame'
  | 'chunk page'
  | 'frame page'
  | 'footer';

/** One structure. */
export interface Part {
  readonly file: string;
  readonly name: PartName;
  /** A frame of data chunks: what a quick check leaves out. */
  readonly isData: boolean;
  readonly from: number;
  readonly to: number;
  /** What lies in it or is only to be found by it: ids of chunks, digests of manifests, in hex. */
  readonly ids: readonly string[];
  readonly backups: Set<string>;
  /** `BACKUP:DISK`. */
  readonly disks: Set<string>;
}

export interface Anatomy {
  readonly parts: readonly Part[];
  /** Raw bytes by id in hex. */
  readonly chunks: ReadonlyMap<string, Buffer>;
  /** Ids by `BACKUP:DISK`; the manifest's digest by `BACKUP`. */
  readonly needs: ReadonlyMap<string, ReadonlySet<string>>;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const ZERO = '00'.repeat(32);
const SEAL = 16;

/** All files below a directory, sorted; their names relative to it. */
export function filesIn(root: string, below = ''): string[] {
  const names: string[] = [];
  for (const entry of readdirSync(join(root, below), { withFileTypes: true })) {
    const name = join(below, entry.name);
    if (entry.isDirectory()) names.push(...filesIn(root, name));
    else names.push(name);
  }
  return names.sort();
}

/** Every structure of every file that holds anything. */
export function dissect(root: string): Anatomy {
  const parts: Part[] = [];
  const chunks = new Map<string, Buffer>();
  for (const name of filesIn(root)) {
    const file = join(root, name);
    const bytes = readFileSync(file);
    if (bytes.length === 0) continue;
    if (name.startsWith('packs/')) parts.push(...dissectContainer(file, bytes, chunks));
    else
      parts.push(
        whole(
          file,
          bytes.length,
          name.endsWith('.manifest') ? 'manifest' : name.endsWith('.sidecar') ? 'sidecar' : 'superblock',
        ),
      );
  }
  const needs = new Map<string, Set<string>>();
  for (const { file, name } of parts) if (name === 'manifest') addNeeds(needs, file, root, chunks);
  for (const part of parts) addNeedy(part, root, needs);
  return { parts, chunks, needs };
}

function whole(file: string, to: number, name: PartName): Part {
  return { file, name, isData: false, from: 0, to, ids: [], backups: new Set(), disks: new Set() };
}

/** The structures of one container; the raw bytes of its chunks go into `chunks` by id. */
export function dissectContainer(file: string, bytes: Buffer, chunks: Map<string, Buffer> = new Map()): Part[] {
  const parts: Part[] = [];
  const add = (name: PartName, from: number, to: number, ids: readonly string[], isData = false): void => {
    parts.push({ file, name, isData, from, to, ids, backups: new Set(), disks: new Set() });
  };
  const { hash, containerId } = decodeContainerHeader(bytes, file);
  const footer = decodeFooter(bytes.subarray(-FOOTER_BYTES), hash, { object: file, fileBytes: bytes.length });
  const all: string[] = [];
  const frameIds: string[][] = [];
  for (let at = CONTAINER_HEADER_BYTES; at < footer.chunkTableOffset; ) {
    const context = { object: file, containerId, offsetBytes: at };
    const { headBytes, totalBytes } = decodeExtentHeader(bytes.subarray(at, at + 96), context);
    const extent = decodeExtentHead(bytes.subarray(at, at + headBytes), hash, context);
    add('extent head', at, at + headBytes, idsOf(extent));
    let frameAt = at + headBytes;
    for (const { ids, storedBytes } of openFrames(extent, bytes, frameAt, chunks)) {
      add('frame', frameAt, frameAt + storedBytes, ids, extent.content === 1);
      frameIds.push(ids);
      frameAt += storedBytes;
    }
    all.push(...idsOf(extent));
    at += totalBytes;
  }
  for (let page = 0; page * CHUNKS_PER_PAGE < footer.chunkCount; page++) {
    const from = tablePageOffset(footer.chunkTableOffset, page, TABLE_CHUNK_BYTES, CHUNKS_PER_PAGE);
    const count = Math.min(CHUNKS_PER_PAGE, footer.chunkCount - page * CHUNKS_PER_PAGE);
    const ids = Array.from({ length: count }, (_, i) => hex(decodeTableChunk(bytes, from + i * TABLE_CHUNK_BYTES).id));
    add('chunk page', from, from + count * TABLE_CHUNK_BYTES + SEAL, ids);
  }
  for (let page = 0; page * FRAMES_PER_PAGE < footer.frameCount; page++) {
    const from = tablePageOffset(footer.frameTableOffset, page, TABLE_FRAME_BYTES, FRAMES_PER_PAGE);
    const count = Math.min(FRAMES_PER_PAGE, footer.frameCount - page * FRAMES_PER_PAGE);
    for (let i = 0; i < count; i++) decodeTableFrame(bytes, from + i * TABLE_FRAME_BYTES);
    const first = page * FRAMES_PER_PAGE;
    add('frame page', from, from + count * TABLE_FRAME_BYTES + SEAL, frameIds.slice(first, first + count).flat());
  }
  add('footer', bytes.length - FOOTER_BYTES, bytes.length, all);
  add('header', 0, CONTAINER_HEADER_BYTES, all);
  return parts.sort((a, b) => a.from - b.from);
}

function idsOf(extent: Extent): string[] {
  return extent.chunks.map((chunk) => hex(chunk.id));
}

function* openFrames(extent: Extent, bytes: Buffer, firstOffset: number, chunks: Map<string, Buffer>) {
  let at = firstOffset;
  let next = 0;
  for (const { storedBytes, codec, chunkCount } of extent.frames) {
    const stored = bytes.subarray(at, at + storedBytes);
    const raw = codec === 0 ? stored : decompress(stored);
    const ids: string[] = [];
    let inFrame = 0;
    for (const { id, lengthBytes } of extent.chunks.slice(next, next + chunkCount)) {
      ids.push(hex(id));
      chunks.set(hex(id), Buffer.from(raw.subarray(inFrame, inFrame + lengthBytes)));
      inFrame += lengthBytes;
    }
    yield { ids, storedBytes };
    at += storedBytes;
    next += chunkCount;
  }
}

export interface LostRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** The ranges of a disk, neighbours joined, that are not to be had without some chunks. */
export function rangesWithout(
  anatomy: Anatomy,
  root: string,
  backup: string,
  diskName: string,
  lost: ReadonlySet<string>,
): LostRange[] {
  const file = join(root, 'manifests', `${backup}.manifest`);
  return lostRanges(decodeManifest(readFileSync(file), file).manifest, anatomy.chunks, diskName, lost);
}

export function lostRanges(
  manifest: Manifest,
  chunks: ReadonlyMap<string, Buffer>,
  diskName: string,
  lost: ReadonlySet<string>,
): LostRange[] {
  const { mapRoot, sizeBytes, clusterSizeBytes } = manifest.disks.find((disk) => disk.name === diskName)!;
  const ranges: { offsetBytes: number; lengthBytes: number }[] = [];
  const add = (from: number, to: number): void => {
    const last = ranges.at(-1);
    if (last !== undefined && last.offsetBytes + last.lengthBytes === from) last.lengthBytes = to - last.offsetBytes;
    else ranges.push({ offsetBytes: from, lengthBytes: to - from });
  };
  const walk = (id: string, level: number, index: number): void => {
    if (id === ZERO) return;
    const span = clusterSizeBytes * manifest.mapFanout ** level;
    if (lost.has(id)) add(index * span, Math.min(sizeBytes, (index + 1) * span));
    if (level === 0 || lost.has(id)) return;
    const page = hex(chunks.get(id)!);
    for (let i = 0; i * 64 < page.length; i++)
      walk(page.slice(i * 64, i * 64 + 64), level - 1, index * manifest.mapFanout + i);
  };
  walk(hex(mapRoot), mapLevels(clusterCount(sizeBytes, clusterSizeBytes), manifest.mapFanout), 0);
  return ranges;
}

function backupOf(file: string, root: string): string {
  return file.slice(join(root, 'manifests/').length).replace(/\.(manifest|sidecar)$/, '');
}

function addNeeds(
  needs: Map<string, Set<string>>,
  file: string,
  root: string,
  chunks: ReadonlyMap<string, Buffer>,
): void {
  const { manifest, digest } = decodeManifest(readFileSync(file), file);
  const backup = backupOf(file, root);
  needs.set(backup, new Set([hex(digest)]));
  for (const [disk, ids] of needsOf(manifest, chunks)) needs.set(`${backup}:${disk}`, ids);
}

/** The ids that each disk's map names, its pages' own among them. */
export function needsOf(manifest: Manifest, chunks: ReadonlyMap<string, Buffer>): Map<string, Set<string>> {
  const needs = new Map<string, Set<string>>();
  for (const disk of manifest.disks) {
    const ids = new Set<string>();
    const walk = (id: string, level: number): void => {
      if (id === ZERO) return;
      ids.add(id);
      if (level === 0) return;
      const page = hex(chunks.get(id)!);
      for (let at = 0; at < page.length; at += 64) walk(page.slice(at, at + 64), level - 1);
    };
    const clusters = clusterCount(disk.sizeBytes, disk.clusterSizeBytes);
    walk(hex(disk.mapRoot), mapLevels(clusters, manifest.mapFanout));
    needs.set(disk.name, ids);
  }
  return needs;
}

function addNeedy(part: Part, root: string, needs: ReadonlyMap<string, ReadonlySet<string>>): void {
  if (part.name === 'manifest' || part.name === 'sidecar') part.backups.add(backupOf(part.file, root));
  const ids = new Set(part.ids);
  for (const [who, needed] of needs) {
    if (![...needed].some((id) => ids.has(id))) continue;
    const isDisk = !who.endsWith('Z');
    part.backups.add(isDisk ? who.slice(0, who.lastIndexOf(':')) : who);
    if (isDisk) part.disks.add(who);
  }
}
