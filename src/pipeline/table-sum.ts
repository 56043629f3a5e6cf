// SPDX-License-Identifier: MIT
// A sum over trailer chunk entries that does not depend on their order: equal sums of what the extents imply and of what
// the chunk table says mean, but for a forger, that the table holds exactly the extents' chunks.

import { type HashName, SEAL_BYTES, sealer } from '../../formats/vmar/hash.js';
import { encodeTableChunk, TABLE_CHUNK_BYTES, type TableChunk } from '../../formats/vmar/trailer.js';
import type { Implementation } from './thread-tools.js';

const WORDS = SEAL_BYTES / 4;

/** The seal hashes of entries, added mod 2^128. */
export class TableSum {
  readonly #seal: (...parts: Uint8Array[]) => Uint8Array;
  readonly #words = new Uint32Array(WORDS);
  readonly #entry = Buffer.alloc(TABLE_CHUNK_BYTES);

  constructor(hash: HashName, implementation: Implementation = 'native') {
    this.#seal = sealer(hash, implementation);
  }

  addChunk(chunk: TableChunk): void {
    encodeTableChunk(chunk, this.#entry, 0);
    this.#add(this.#seal(this.#entry));
  }

  /** Adds trailer entries, 48 bytes each, end to end: a page's without its seal. */
  addEntries(entries: Uint8Array): void {
    for (let at = 0; at < entries.byteLength; at += TABLE_CHUNK_BYTES) {
      this.#add(this.#seal(entries.subarray(at, at + TABLE_CHUNK_BYTES)));
    }
  }

  /** Adds another sum's `bytes()`. */
  addSum(sum: Uint8Array): void {
    this.#add(sum);
  }

  /** 16 bytes, little-endian. */
  bytes(): Uint8Array {
    const bytes = new Uint8Array(SEAL_BYTES);
    const view = new DataView(bytes.buffer);
    for (let word = 0; word < WORDS; word++) view.setUint32(word * 4, this.#words[word]!, true);
    return bytes;
  }

  #add(term: Uint8Array): void {
    const view = new DataView(term.buffer, term.byteOffset, SEAL_BYTES);
    let carry = 0;
    for (let word = 0; word < WORDS; word++) {
      const sum = this.#words[word]! + view.getUint32(word * 4, true) + carry;
      this.#words[word] = sum;
      carry = sum > 0xffffffff ? 1 : 0;
    }
  }
}
