// SPDX-License-Identifier: MIT
// A zstd stream, decompressed piece by piece. Whatever the stream claims, memory is bounded: one piece of output, and the
// window, of which no more is allowed than the zstd program allows unless it is told.

import zstd from 'zstd-napi/binding.js';
import { FailedError, type VmarError } from '../../base/errors.js';
import type { ByteStream } from './byte-stream.js';
import { compressedCut, compressedDamaged } from './compression-errors.js';

const MAX_WINDOW_LOG = 27;
const NOTHING = new Uint8Array(0);
/** As a number, the first byte lowest; skippable frames have one of sixteen. */
const MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;

export function isZstdStart(first: Uint8Array): boolean {
  if (first.byteLength < 4) return false;
  const magic = new DataView(first.buffer, first.byteOffset).getUint32(0, true);
  return magic === MAGIC || (magic & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC;
}

/** Where what comes out is put. */
export interface Rooms {
  take(): Promise<Uint8Array>;
}

export class ZstdBytes implements ByteStream {
  readonly name: string;
  readonly #stream: ByteStream;
  readonly #context = new zstd.DCtx();
  readonly #rooms: Rooms;
  #input: Uint8Array = NOTHING;
  #consumedBytes = 0;
  /** Not inside of a frame. */
  #isBetween = true;
  #isEnded = false;

  constructor(stream: ByteStream, rooms: Rooms) {
    this.name = stream.name;
    this.#stream = stream;
    this.#rooms = rooms;
    this.#context.setParameter(zstd.DParameter.windowLogMax, MAX_WINDOW_LOG);
  }

  async next(): Promise<Uint8Array | undefined> {
    if (this.#isEnded) return undefined;
    const room = await this.#rooms.take();
    let filled = 0;
    for (;;) {
      // Without input there may still be output that had no room before.
      filled += this.#step(room.subarray(filled));
      if (filled === room.byteLength) return room;
      if (this.#input.byteLength > 0) continue;
      const piece = await this.#stream.next();
      if (piece !== undefined) {
        this.#input = piece;
        continue;
      }
      if (!this.#isBetween && filled === 0) throw compressedCut(this.name, this.#consumedBytes);
      this.#isEnded = this.#isBetween;
      return filled > 0 ? room.subarray(0, filled) : undefined;
    }
  }

  /** Bytes that came out. */
  #step(room: Uint8Array): number {
    if (this.#isBetween && this.#input.byteLength === 0) return 0;
    try {
      const [left, produced, consumed] = this.#context.decompressStream(room, this.#input);
      this.#input = this.#input.subarray(consumed);
      this.#consumedBytes += consumed;
      this.#isBetween = left === 0;
      return produced;
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #failure(error: unknown): VmarError {
    const why = error instanceof Error ? error.message : String(error);
    const facts = { object: this.name, offsetBytes: this.#consumedBytes, cause: error };
    if (/memory/i.test(why)) {
      return new FailedError('window-too-large', 'decompressing it would take more memory than is allowed', {
        ...facts,
        expected: `a window of at most ${2 ** (MAX_WINDOW_LOG - 20)} MiB`,
        advice: 'Decompress it with `zstd -d --long=31` first.',
      });
    }
    return compressedDamaged(this.name, why, error, this.#consumedBytes);
  }

  async close(): Promise<void> {
    this.#input = NOTHING;
    await this.#stream.close();
  }
}
