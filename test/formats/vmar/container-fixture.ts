// SPDX-License-Identifier: MIT
// Whole containers and the maps of disks in memory, made with the codecs alone, so that a reader can be tested before and
// apart from everything that writes backups.

import { compress } from 'zstd-napi';
import { type ContainerHeader, encodeContainerHeader } from '#vmar/formats/vmar/container-header.js';
import { type ChunkEntry, type ExtentContent, encodeExtentHead, type FrameEntry } from '#vmar/formats/vmar/extent.js';
import { chunkContext, createHasher, type HashName, sealer } from '#vmar/formats/vmar/hash.js';
import { mapLevels, ZERO_ID } from '#vmar/formats/vmar/map.js';
import type { TableChunk, TableFrame } from '#vmar/formats/vmar/trailer.js';
import { encodeTrailer, footerOf } from './samples.js';

/** A chunk and its bytes. */
export interface Content {
  readonly entry: ChunkEntry;
  readonly bytes: Uint8Array;
}

export class ContainerFixture {
  readonly #header: ContainerHeader;
  readonly #parts: Uint8Array[];
  readonly #chunks: TableChunk[] = [];
  readonly #frames: TableFrame[] = [];
  #offset = 256;
  #extents = 0;
  #manifestExtent = 0;

  constructor(header: ContainerHeader) {
    this.#header = header;
    this.#parts = [encodeContainerHeader(header)];
  }

  /** Appends an extent with one frame for each list of chunks; every second frame is stored as it is. */
  append(content: ExtentContent, frames: readonly (readonly Content[])[]): void {
    const { hash, containerId } = this.#header;
    const stored = frames.map((contents, index) => storeFrame(contents, index % 2 === 0, hash));
    const extent = {
      content,
      containerId,
      offsetBytes: this.#offset,
      sequence: this.#extents,
      chunks: frames.flat().map(({ entry }) => entry),
      frames: stored.map(({ entry }) => entry),
    };
    const head = encodeExtentHead(extent, hash);
    if (content === 3) this.#manifestExtent = this.#offset;
    let at = this.#offset + head.byteLength;
    for (const [index, { entry, bytes }] of stored.entries()) {
      if (content <= 2) this.#tabulate(frames[index]!);
      this.#frames.push({ offsetBytes: at, ...entry });
      at += bytes.byteLength;
    }
    this.#parts.push(head, ...stored.map(({ bytes }) => bytes));
    this.#offset = at;
    this.#extents++;
  }

  #tabulate(contents: readonly Content[]): void {
    let offsetBytes = 0;
    for (const { entry } of contents) {
      const { id, lengthBytes, kind } = entry;
      this.#chunks.push({ id, frame: this.#frames.length, offsetBytes, lengthBytes, kind });
      offsetBytes += lengthBytes;
    }
  }

  /** Appends a manifest's envelope as an extent of its own. */
  appendManifest(content: 3 | 4, envelope: Uint8Array): void {
    const id = envelope.subarray(-32);
    const entry = { id, lengthBytes: envelope.byteLength, kind: 255, disk: 65535, where: 0 };
    this.append(content, [[{ entry, bytes: envelope }]]);
  }

  /** The whole file. */
  finish(): Uint8Array {
    const chunks = this.#chunks.toSorted((a, b) => Buffer.compare(a.id, b.id));
    const footer = footerOf(chunks, this.#frames, {
      chunkTableOffset: this.#offset,
      manifestExtentOffset: this.#manifestExtent,
      extentCount: this.#extents,
    });
    const ours = { ...footer, containerId: this.#header.containerId };
    return Buffer.concat([...this.#parts, encodeTrailer(chunks, this.#frames, ours, this.#header.hash)]);
  }
}

function storeFrame(contents: readonly Content[], squeeze: boolean, hash: HashName) {
  const raw = Buffer.concat(contents.map(({ bytes }) => bytes));
  const squeezed = squeeze ? compress(raw) : raw;
  const bytes = squeezed.byteLength < raw.byteLength ? squeezed : raw;
  const entry: FrameEntry = {
    storedBytes: bytes.byteLength,
    rawBytes: raw.byteLength,
    chunkCount: contents.length,
    codec: bytes === raw ? 0 : 1,
    seal: sealer(hash)(bytes),
  };
  return { entry, bytes };
}

export interface MappedDisk {
  readonly root: Uint8Array;
  readonly data: readonly Content[];
  readonly pages: readonly Content[];
}

/** The chunks and the map of a disk (SPEC.md §2 and §3). */
export function mapDisk(content: Uint8Array, clusterSizeBytes: number, fanout: number, hash: HashName): MappedDisk {
  const data: Content[] = [];
  const pages: Content[] = [];
  const idOf = (bytes: Uint8Array, kind: number, where: number, found: Content[]): Uint8Array => {
    if (bytes.every((byte) => byte === 0)) return ZERO_ID;
    const id = createHasher(hash, chunkContext(kind)).digest(bytes);
    found.push({ entry: { id, lengthBytes: bytes.byteLength, kind, disk: 0, where }, bytes });
    return id;
  };
  let ids = pieces(content, clusterSizeBytes).map((bytes, cluster) => idOf(bytes, 0, cluster, data));
  const levels = mapLevels(ids.length, fanout);
  for (let level = 1; level <= levels; level++) {
    ids = pieces(Buffer.concat(ids), fanout * 32).map((bytes, page) => idOf(bytes, level, page, pages));
  }
  return { root: ids[0] ?? ZERO_ID, data, pages };
}

function pieces(bytes: Uint8Array, length: number): Uint8Array[] {
  return Array.from({ length: Math.ceil(bytes.byteLength / length) }, (_, index) =>
    bytes.subarray(index * length, (index + 1) * length),
  );
}
