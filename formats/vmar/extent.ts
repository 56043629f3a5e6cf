// SPDX-License-Identifier: MIT
// The head of an extent: its header, its table of chunks and its table of frames (SPEC.md §4.2).

import { asBuffer, bytesEqual } from '../../src/base/bytes.js';
import { checkSums } from './extent-checks.js';
import {
  checkLength,
  getSize,
  isZeroField,
  type Place,
  putBytes,
  putSize,
  type Refusal,
  refusalOf,
  required,
} from './fields.js';
import { type HashName, ID_BYTES, SEAL_BYTES, sealer } from './hash.js';
import { MAX_EXTENT_CHUNKS, MAX_EXTENT_FRAMES, MAX_EXTENT_STORED_BYTES } from './limits.js';

export const EXTENT_HEADER_BYTES = 96;
export const CHUNK_ENTRY_BYTES = 48;
export const FRAME_ENTRY_BYTES = 32;
export const CONTAINER_ID_BYTES = 16;
/** The kind of the one chunk in a manifest or prologue extent. */
export const ENVELOPE_KIND = 255;
/** A chunk's `disk` where it is not told. */
export const DISK_UNTOLD = 65535;
export const EXTENT_MAGIC = 'VMAX';

/** 1 data, 2 map pages, 3 manifest, 4 prologue. */
export type ExtentContent = 1 | 2 | 3 | 4;

export interface ChunkEntry {
  /** 32 bytes. */
  readonly id: Uint8Array;
  readonly lengthBytes: number;
  /** 0 data, 1 to 7 a map page of that level, 255 an envelope. */
  readonly kind: number;
  /** The disk it was first met on, its place in the manifest's list; 65535 = not told. */
  readonly disk: number;
  /** Cluster number, or page number within its level; 0 if not told. */
  readonly where: number;
}

export interface FrameEntry {
  readonly storedBytes: number;
  readonly rawBytes: number;
  readonly chunkCount: number;
  /** 0 as it is, 1 one zstd frame. */
  readonly codec: 0 | 1;
  /** 16 bytes, of the stored bytes. */
  readonly seal: Uint8Array;
}

export interface Extent {
  readonly content: ExtentContent;
  /** 16 bytes. */
  readonly containerId: Uint8Array;
  /** Of the extent in its container. */
  readonly offsetBytes: number;
  readonly sequence: number;
  /** In the order of the frames. */
  readonly chunks: readonly ChunkEntry[];
  readonly frames: readonly FrameEntry[];
}

/** What an extent must say of itself to be the one that is looked for. */
export interface ExtentContext extends Place {
  /** 16 bytes. */
  readonly containerId: Uint8Array;
  readonly sequence?: number;
}

export interface ExtentHeader {
  readonly content: ExtentContent;
  readonly sequence: number;
  readonly chunkCount: number;
  readonly frameCount: number;
  /** Stored bytes of all frames. */
  readonly framesBytes: number;
  /** Header and tables. */
  readonly headBytes: number;
  readonly totalBytes: number;
}

/** Header and both tables, sealed; the frames follow it in the container. */
export function encodeExtentHead(extent: Extent, hash: HashName): Uint8Array {
  const { chunks, frames } = extent;
  required(chunks.length <= MAX_EXTENT_CHUNKS, 'at most 65536 chunks in an extent');
  required(frames.length <= MAX_EXTENT_FRAMES, 'at most 4096 frames in an extent');
  const broken = checkSums(extent);
  required(broken === undefined, `sound tables of an extent (${broken})`);
  const framesAt = EXTENT_HEADER_BYTES + chunks.length * CHUNK_ENTRY_BYTES;
  const head = Buffer.alloc(framesAt + frames.length * FRAME_ENTRY_BYTES);
  let framesBytes = 0;
  for (const frame of frames) framesBytes += frame.storedBytes;
  required(framesBytes <= MAX_EXTENT_STORED_BYTES, 'at most 64 MiB of stored bytes in an extent');
  head.write(EXTENT_MAGIC, 0, 'latin1');
  head[4] = extent.content;
  putBytes(head, 8, extent.containerId, CONTAINER_ID_BYTES);
  putSize(head, 24, extent.offsetBytes);
  head.writeUInt32LE(extent.sequence, 32);
  head.writeUInt32LE(chunks.length, 36);
  head.writeUInt32LE(frames.length, 40);
  head.writeUInt32LE(framesBytes, 44);
  let at = EXTENT_HEADER_BYTES;
  for (const chunk of chunks) at = putChunk(head, at, chunk);
  for (const frame of frames) at = putFrame(head, at, frame);
  head.set(sealOf(head, hash), EXTENT_HEADER_BYTES - SEAL_BYTES);
  return head;
}

function putChunk(head: Buffer, at: number, chunk: ChunkEntry): number {
  putBytes(head, at, chunk.id, ID_BYTES);
  head.writeUInt32LE(chunk.lengthBytes, at + 32);
  head[at + 36] = chunk.kind;
  head.writeUInt16LE(chunk.disk, at + 38);
  putSize(head, at + 40, chunk.where);
  return at + CHUNK_ENTRY_BYTES;
}

function putFrame(head: Buffer, at: number, frame: FrameEntry): number {
  head.writeUInt32LE(frame.storedBytes, at);
  head.writeUInt32LE(frame.rawBytes, at + 4);
  head.writeUInt32LE(frame.chunkCount, at + 8);
  head[at + 12] = frame.codec;
  putBytes(head, at + 16, frame.seal, SEAL_BYTES);
  return at + FRAME_ENTRY_BYTES;
}

/** The seal lies between what it is taken of. */
function sealOf(head: Buffer, hash: HashName): Uint8Array {
  return sealer(hash)(head.subarray(0, EXTENT_HEADER_BYTES - SEAL_BYTES), head.subarray(EXTENT_HEADER_BYTES));
}

/**
 * Looks at the first 96 bytes: whether this can be the extent that is looked for, and how long it says it is. Limits are
 * checked; the seal is not, since it covers the tables too.
 * @throws DamageError
 */
export function decodeExtentHeader(first96: Uint8Array, context: ExtentContext): ExtentHeader {
  const refuse = refusalOf('extent-damaged', context);
  checkLength(first96, EXTENT_HEADER_BYTES, 'the header of an extent', refuse);
  const bytes = asBuffer(first96);
  if (bytes.toString('latin1', 0, 4) !== EXTENT_MAGIC) throw refuse('there is no extent where one belongs');
  if (!bytesEqual(bytes.subarray(8, 24), context.containerId)) throw refuse('an extent is of another container');
  checkPlace('offset', getSize(bytes, 24), context.offsetBytes, refuse);
  const sequence = bytes.readUInt32LE(32);
  if (context.sequence !== undefined) checkPlace('sequence', sequence, context.sequence, refuse);
  const content = bytes[4]!;
  if (content < 1 || content > 4) throw refuse('an extent has unknown content', { found: `${content}` });
  if (!isZeroField(bytes, 5, 8) || !isZeroField(bytes, 48, 80)) {
    throw refuse('the header of an extent is not zero where it must be');
  }
  return { content: content as ExtentContent, sequence, ...readCounts(bytes, content > 2, refuse) };
}

function checkPlace(what: string, found: number, expected: number, refuse: Refusal): void {
  if (found === expected) return;
  throw refuse(`an extent has another ${what} than it should`, { expected: `${expected}`, found: `${found}` });
}

function readCounts(bytes: Buffer, isEnvelope: boolean, refuse: Refusal) {
  const chunkCount = bytes.readUInt32LE(36);
  const frameCount = bytes.readUInt32LE(40);
  const framesBytes = bytes.readUInt32LE(44);
  const mostChunks = isEnvelope ? 1 : MAX_EXTENT_CHUNKS;
  const mostFrames = isEnvelope ? 1 : MAX_EXTENT_FRAMES;
  if (chunkCount < 1 || chunkCount > mostChunks) {
    throw refuse('an extent has an impossible number of chunks', { found: `${chunkCount}` });
  }
  if (frameCount < 1 || frameCount > mostFrames || frameCount > chunkCount) {
    throw refuse('an extent has an impossible number of frames', { found: `${frameCount}` });
  }
  if (framesBytes < frameCount || framesBytes > MAX_EXTENT_STORED_BYTES) {
    throw refuse('an extent has an impossible length', { found: `${framesBytes}` });
  }
  const headBytes = EXTENT_HEADER_BYTES + chunkCount * CHUNK_ENTRY_BYTES + frameCount * FRAME_ENTRY_BYTES;
  return { chunkCount, frameCount, framesBytes, headBytes, totalBytes: headBytes + framesBytes };
}

/**
 * Header and tables, whose length `decodeExtentHeader` told; more bytes may follow. Ids and seals are views of `head`.
 * @throws DamageError
 */
export function decodeExtentHead(head: Uint8Array, hash: HashName, context: ExtentContext): Extent {
  const refuse = refusalOf('extent-damaged', context);
  const header = decodeExtentHeader(head, context);
  checkLength(head, header.headBytes, 'the tables of an extent', refuse);
  const bytes = asBuffer(head).subarray(0, header.headBytes);
  const seal = bytes.subarray(EXTENT_HEADER_BYTES - SEAL_BYTES, EXTENT_HEADER_BYTES);
  if (!bytesEqual(sealOf(bytes, hash), seal)) throw refuse('the seal of an extent does not match');
  const chunks: ChunkEntry[] = [];
  const frames: FrameEntry[] = [];
  let at = EXTENT_HEADER_BYTES;
  for (; chunks.length < header.chunkCount; at += CHUNK_ENTRY_BYTES) chunks.push(getChunk(bytes, at, refuse));
  for (; frames.length < header.frameCount; at += FRAME_ENTRY_BYTES) frames.push(getFrame(bytes, at, refuse));
  const { content, sequence } = header;
  const { containerId, offsetBytes } = context;
  const extent = { content, containerId, offsetBytes, sequence, chunks, frames };
  const broken = checkSums(extent);
  if (broken !== undefined) throw refuse(`the tables of an extent contradict each other: ${broken}`);
  let framesBytes = 0;
  for (const frame of frames) framesBytes += frame.storedBytes;
  if (framesBytes !== header.framesBytes) throw refuse('the frames of an extent are not as long as it says');
  return extent;
}

function getChunk(bytes: Buffer, at: number, refuse: Refusal): ChunkEntry {
  if (bytes[at + 37] !== 0) throw refuse('a chunk of an extent is not zero where it must be');
  return {
    id: bytes.subarray(at, at + ID_BYTES),
    lengthBytes: bytes.readUInt32LE(at + 32),
    kind: bytes[at + 36]!,
    disk: bytes.readUInt16LE(at + 38),
    where: getSize(bytes, at + 40),
  };
}

function getFrame(bytes: Buffer, at: number, refuse: Refusal): FrameEntry {
  const codec = bytes[at + 12]!;
  if (codec > 1 || !isZeroField(bytes, at + 13, at + 16)) throw refuse('a frame of an extent is of an unknown codec');
  return {
    storedBytes: bytes.readUInt32LE(at),
    rawBytes: bytes.readUInt32LE(at + 4),
    chunkCount: bytes.readUInt32LE(at + 8),
    codec: codec as 0 | 1,
    seal: bytes.subarray(at + 16, at + 16 + SEAL_BYTES),
  };
}
