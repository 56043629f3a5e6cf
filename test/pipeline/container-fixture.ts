// SPDX-License-Identifier: MIT
// A container's extents as bytes, made with the codecs alone.

import { compress } from 'zstd-napi';
import { type ChunkEntry, encodeExtentHead, type FrameEntry } from '#vmar/formats/vmar/extent.js';
import { chunkContext, createHasher, type HashName, sealer } from '#vmar/formats/vmar/hash.js';
import type { TableChunk } from '#vmar/formats/vmar/trailer.js';
import { noise } from './bytes-fixture.js';

export interface FrameOfBytes {
  readonly chunks: readonly Buffer[];
  /** 0 = data, 1–7 = map page, 255 = envelope. */
  readonly kind?: number;
  /** In place of the true ones. */
  readonly ids?: readonly Uint8Array[];
  /** Store as it is. */
  readonly raw?: boolean;
}

export interface ExtentOfFrames {
  readonly content: 1 | 2 | 3 | 4;
  readonly frames: readonly FrameOfBytes[];
}

export interface PlacedFrame extends FrameEntry {
  readonly offsetBytes: number;
  readonly ids: readonly Uint8Array[];
  /** The raw bytes, its chunks end to end. */
  readonly bytes: Buffer;
}

export interface PlacedExtent {
  readonly offsetBytes: number;
  readonly headBytes: number;
  readonly totalBytes: number;
  readonly frames: readonly PlacedFrame[];
}

export interface Container {
  readonly hash: HashName;
  readonly containerId: Uint8Array;
  /** Unchecked bytes in place of a header, then the extents. */
  readonly bytes: Buffer;
  readonly from: number;
  readonly extents: readonly PlacedExtent[];
  readonly tableChunks: readonly TableChunk[];
}

export function chunkId(hash: HashName, kind: number, bytes: Buffer): Uint8Array {
  if (kind !== 255) return createHasher(hash, chunkContext(kind)).digest(bytes);
  return bytes.subarray(bytes.length - 32);
}

/** Something whose last 32 bytes are the digest of those before them, as a manifest's envelope. */
export function envelope(hash: HashName, length: number): Buffer {
  const body = noise(length - 32, 77);
  return Buffer.concat([body, createHasher(hash, 'manifest').digest(body)]);
}

const HEADER_BYTES = 256;

export function buildContainer(extents: readonly ExtentOfFrames[], hash: HashName = 'blake3'): Container {
  const containerId = noise(16, 4711);
  const parts: Buffer[] = [Buffer.alloc(HEADER_BYTES, 'header ')];
  const placed: PlacedExtent[] = [];
  const tableChunks: TableChunk[] = [];
  let offsetBytes = HEADER_BYTES;
  let frameNumber = 0;
  for (const [sequence, { content, frames }] of extents.entries()) {
    const stored = frames.map((frame) => storeFrame(frame, hash));
    const chunks = frames.flatMap((frame) => entriesOf(frame, hash));
    const head = Buffer.from(
      encodeExtentHead(
        { content, containerId, offsetBytes, sequence, chunks, frames: stored.map(({ entry }) => entry) },
        hash,
      ),
    );
    parts.push(head, ...stored.map(({ bytes }) => bytes));
    let at = offsetBytes + head.length;
    const inPlace: PlacedFrame[] = [];
    for (const [index, { entry, raw }] of stored.entries()) {
      const { chunks: contents, kind = 0 } = frames[index]!;
      const ids = idsOf(frames[index]!, hash);
      let inFrame = 0;
      for (const [chunk, bytes] of contents.entries()) {
        const id = ids[chunk]!;
        if (content <= 2) {
          tableChunks.push({ id, frame: frameNumber, offsetBytes: inFrame, lengthBytes: bytes.length, kind });
        }
        inFrame += bytes.length;
      }
      inPlace.push({ ...entry, offsetBytes: at, ids, bytes: raw });
      at += entry.storedBytes;
      frameNumber++;
    }
    placed.push({ offsetBytes, headBytes: head.length, totalBytes: at - offsetBytes, frames: inPlace });
    offsetBytes = at;
  }
  return { hash, containerId, bytes: Buffer.concat(parts), from: HEADER_BYTES, extents: placed, tableChunks };
}

function idsOf(frame: FrameOfBytes, hash: HashName): readonly Uint8Array[] {
  return frame.ids ?? frame.chunks.map((bytes) => chunkId(hash, frame.kind ?? 0, bytes));
}

function entriesOf(frame: FrameOfBytes, hash: HashName): ChunkEntry[] {
  const ids = idsOf(frame, hash);
  return frame.chunks.map(({ length }, index) => {
    return { id: ids[index]!, lengthBytes: length, kind: frame.kind ?? 0, disk: 65535, where: 0 };
  });
}

function storeFrame(frame: FrameOfBytes, hash: HashName): { entry: FrameEntry; bytes: Buffer; raw: Buffer } {
  const raw = Buffer.concat(frame.chunks);
  const packed = frame.raw ? raw : compress(raw);
  const bytes = packed.length < raw.length ? packed : raw;
  const entry: FrameEntry = {
    storedBytes: bytes.length,
    rawBytes: raw.length,
    chunkCount: frame.chunks.length,
    codec: bytes === raw ? 0 : 1,
    seal: Uint8Array.from(sealer(hash)(bytes)),
  };
  return { entry, bytes, raw };
}
