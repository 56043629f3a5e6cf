// SPDX-License-Identifier: MIT
// Checks the chunks of a frame against their ids.

import { type HashName, ID_BYTES } from '../../formats/vmar/hash.js';
import type { LoadChunk } from './load-job.js';
import { chunkHasher, type Implementation } from './thread-tools.js';

/** A chunk that goes to several places in a row is hashed once. */
export class ChunkCheck {
  readonly #hash: HashName;
  readonly #implementation: Implementation;
  readonly #id = Buffer.alloc(ID_BYTES);
  #raw: Buffer = Buffer.alloc(0);
  #offset = -1;
  #length = -1;
  #kind = -1;

  constructor(hash: HashName, implementation: Implementation) {
    this.#hash = hash;
    this.#implementation = implementation;
  }

  /** From here on the chunks of a frame with these raw bytes. */
  begin(raw: Buffer): void {
    this.#raw = raw;
    this.#offset = -1;
  }

  /** Whether the chunk lies in the frame and is what its id says. */
  passes(chunk: LoadChunk): boolean {
    const { offsetInFrame, lengthBytes, kind } = chunk;
    if (offsetInFrame + lengthBytes > this.#raw.byteLength) return false;
    if (offsetInFrame !== this.#offset || lengthBytes !== this.#length || kind !== this.#kind) {
      const bytes = this.#raw.subarray(offsetInFrame, offsetInFrame + lengthBytes);
      chunkHasher(this.#hash, kind, this.#implementation).into(bytes, this.#id);
      this.#offset = offsetInFrame;
      this.#length = lengthBytes;
      this.#kind = kind;
    }
    return this.#id.equals(chunk.id);
  }
}
