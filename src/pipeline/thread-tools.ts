// SPDX-License-Identifier: MIT
// What a thread keeps for its next task: compression contexts, hashers and scratch memory, made on first use. Tasks are
// synchronous, so that one of each is enough.

import zstd from 'zstd-napi/binding.js';
import {
  chunkContext,
  createHasher,
  type Hasher,
  type HashImplementation,
  type HashName,
} from '../../formats/vmar/hash.js';
import { alignedOffset } from '../base/syscalls.js';

export type Implementation = HashImplementation;

let compressor: { readonly context: zstd.CCtx; level: number } | undefined;

/** A context that compresses at the level. */
export function compressionContext(level: number): zstd.CCtx {
  if (compressor?.level !== level) {
    const context = compressor?.context ?? new zstd.CCtx();
    context.setParameter(zstd.CParameter.compressionLevel, level);
    compressor = { context, level };
  }
  return compressor.context;
}

let decompressor: zstd.DCtx | undefined;

/**
 * Decompresses exactly one zstd frame into exactly `into`; false if it is anything else. Memory does not depend on what
 * the frame claims.
 */
export function decompressWhole(frame: Uint8Array, into: Uint8Array): boolean {
  decompressor ??= new zstd.DCtx();
  try {
    // A second frame or a skippable one behind the first would pass `decompress`.
    if (zstd.findFrameCompressedSize(frame) !== frame.byteLength) return false;
    return decompressor.decompress(into, frame) === into.byteLength;
  } catch {
    return false;
  }
}

/** Decompresses what can be of a damaged frame: blocks before the damage are right, all else in `into` is anything. */
export function decompressPart(frame: Uint8Array, into: Uint8Array): void {
  decompressor ??= new zstd.DCtx();
  try {
    decompressor.decompress(into, frame);
  } catch {
    // Expected: it is damaged.
  }
}

const hashers = new Map<string, Hasher>();

/** A hasher of the thread for one context; not re-entrant. */
export function contextHasher(hash: HashName, context: string, implementation: Implementation): Hasher {
  const key = `${hash} ${implementation} ${context}`;
  let hasher = hashers.get(key);
  if (hasher === undefined) {
    hasher = createHasher(hash, context, { implementation });
    hashers.set(key, hasher);
  }
  return hasher;
}

/** The hasher for ids of chunks of one kind: 0 data, 1–7 map pages. */
export function chunkHasher(hash: HashName, kind: number, implementation: Implementation): Hasher {
  return contextHasher(hash, chunkContext(kind), implementation);
}

/** Memory for one purpose, grown when more is asked for and kept for the next task. */
export class Scratch {
  #buffer = Buffer.alloc(0);
  #aligned = false;

  /** `length` bytes of unknown content, valid until the next call; `alignment` 4096 makes the address fit O_DIRECT. */
  take(length: number, alignment: 1 | 4096 = 1): Buffer {
    if (this.#buffer.byteLength < length || (alignment > 1 && !this.#aligned)) this.#grow(length, alignment);
    return this.#buffer.byteLength === length ? this.#buffer : this.#buffer.subarray(0, length);
  }

  #grow(length: number, alignment: 1 | 4096): void {
    const room = Math.max(this.#buffer.byteLength, Math.ceil(length / ROOM_BYTES) * ROOM_BYTES);
    const memory = Buffer.allocUnsafeSlow(room + alignment - 1);
    const at = alignment === 1 ? 0 : alignedOffset(memory, alignment);
    this.#buffer = memory.subarray(at, at + room);
    this.#aligned = alignment > 1;
  }
}

const ROOM_BYTES = 1 << 20;
