// SPDX-License-Identifier: MIT
// Reads single chunks on the calling thread: map pages, manifests, and what diff or show need. Data in bulk goes through
// the pipeline's workers instead (restore.ts).

import zstd from 'zstd-napi/binding.js';
import { chunkContext, createHasher, type Hasher, sealer } from '../../formats/vmar/hash.js';
import { MAX_FRAME_BYTES, MAX_MANIFEST_BYTES } from '../../formats/vmar/limits.js';
import type { TableFrame } from '../../formats/vmar/trailer.js';
import { bytesEqual, toHex } from '../base/bytes.js';
import { DamageError, FailedError, VmarError } from '../base/errors.js';
import type { ContainerReader } from '../store/container-reader.js';
import { PageCache } from '../store/page-cache.js';
import type { ChunkPlace, ChunkSource, LikelyNext } from './chunk-source.js';

/** Frames kept: neighbouring map pages alternate between the packs of several nights. */
const CACHED_FRAMES = 8;

let context: zstd.DCtx | undefined;

/**
 * The raw bytes of one frame, its seal checked.
 * @throws DamageError naming file and offset.
 */
export function readFrame(container: ContainerReader, frame: TableFrame): Uint8Array {
  const facts = { object: container.path, offsetBytes: frame.offsetBytes };
  if (frame.rawBytes > Math.max(MAX_FRAME_BYTES, MAX_MANIFEST_BYTES) || frame.storedBytes > frame.rawBytes) {
    throw new DamageError('frame-size', 'a frame claims an impossible size', facts);
  }
  const stored = container.readBytes(frame.offsetBytes, frame.storedBytes);
  if (!bytesEqual(sealer(container.header.hash)(stored), frame.seal)) {
    throw new DamageError('frame-damaged', 'a frame does not match its seal', facts);
  }
  if (frame.codec === 0) return stored;
  const raw = Buffer.allocUnsafeSlow(frame.rawBytes);
  context ??= new zstd.DCtx();
  let length = -1;
  try {
    length = context.decompress(raw, stored);
  } catch (error) {
    throw new DamageError('frame-damaged', 'a frame cannot be decompressed', { ...facts, cause: error });
  }
  if (length !== frame.rawBytes)
    throw new DamageError('frame-damaged', 'a frame has another length than it says', facts);
  return raw;
}

/** Reads chunks of a source one at a time, each checked against its id. */
export class ChunkReader {
  readonly #source: ChunkSource;
  readonly #hashers = new Map<number, Hasher>();
  readonly #frames = new PageCache<Uint8Array>(CACHED_FRAMES);

  constructor(source: ChunkSource) {
    this.#source = source;
  }

  /**
   * The chunk's bytes (not to be changed: they may be shared). If the place that the index gave is wrong or damaged,
   * every other copy is tried; `next` says what is likely to be searched for after it.
   * @throws DamageError if no good copy is found, FailedError if one may be in a container that this vmar cannot read.
   */
  async read(id: Uint8Array, kind: number, next?: LikelyNext): Promise<Uint8Array> {
    try {
      const first = this.#source.locate(id);
      if (first !== undefined) return this.#readAt(first, id, kind);
    } catch (error) {
      // Not the chunk's own fault before its container's table has said so.
      if (!(error instanceof VmarError)) throw error;
    }
    const { places, passedOver } = await this.#source.locateAll(id, next);
    let failure: VmarError | undefined;
    for (const place of places) {
      try {
        return this.#readAt(place, id, kind);
      } catch (error) {
        if (!(error instanceof VmarError)) throw error;
        if (error instanceof DamageError) this.#source.distrust?.(place);
        failure ??= error;
      }
    }
    const refused = passedOver.find((error) => error instanceof FailedError);
    throw failure ?? refused ?? passedOver[0] ?? missing(id, kind);
  }

  /** The chunk's bytes where the index says that they are; undefined if they cannot be had there. */
  likely(id: Uint8Array, kind: number): Uint8Array | undefined {
    try {
      const place = this.#source.locate(id);
      return place === undefined ? undefined : this.#readAt(place, id, kind);
    } catch (error) {
      if (error instanceof VmarError) return undefined;
      throw error;
    }
  }

  /** Whether there is a place where a chunk should be. */
  hasPlace(id: Uint8Array): boolean {
    try {
      return this.#source.locate(id) !== undefined;
    } catch (error) {
      if (error instanceof VmarError) return false;
      throw error;
    }
  }

  /** One that reads the same, and leaves what this one keeps alone. */
  beside(): ChunkReader {
    return new ChunkReader(this.#source);
  }

  #readAt(place: ChunkPlace, id: Uint8Array, kind: number): Uint8Array {
    const entry = place.container.frame(place.frame);
    const key = `${place.container.path}:${place.frame}`;
    let raw = this.#frames.get(key);
    if (raw === undefined) {
      raw = readFrame(place.container, entry);
      this.#frames.set(key, raw);
    }
    const end = place.offsetBytes + place.lengthBytes;
    const bytes = raw.subarray(place.offsetBytes, end);
    if (end > raw.byteLength || !bytesEqual(this.#hasher(kind).digest(bytes), id)) {
      throw new DamageError('chunk-damaged', `${kind === 0 ? 'a chunk' : 'a map page'} does not match its id`, {
        object: place.container.path,
        offsetBytes: entry.offsetBytes,
        expected: toHex(id),
      });
    }
    return bytes;
  }

  #hasher(kind: number): Hasher {
    let hasher = this.#hashers.get(kind);
    if (hasher === undefined) {
      hasher = createHasher(this.#source.hash, chunkContext(kind));
      this.#hashers.set(kind, hasher);
    }
    return hasher;
  }
}

function missing(id: Uint8Array, kind: number): DamageError {
  const what = kind === 0 ? 'a chunk' : 'a map page';
  return new DamageError('chunk-missing', `${what} is in no pack`, { object: toHex(id) });
}
