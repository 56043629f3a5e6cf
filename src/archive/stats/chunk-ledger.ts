// SPDX-License-Identifier: MIT
// What each chunk takes, and who needs it: millions of chunks in typed arrays, some 60 bytes each.

import { IdTable } from '../../store/gc/id-table.js';

/** Where a chunk stands in the ledger, from 1. */
export type ChunkNumber = number;

export class ChunkLedger {
  readonly #table = new IdTable();
  #rawBytes: Uint32Array;
  #storedBytes: Float32Array;
  /** The earliest backup that needs it, by its place in time, from 1; 0: none does. */
  #firstBackup: Uint32Array;
  /** The guest that was found to need it last, from 1. */
  #lastGuest: Uint32Array;
  #isShared: Uint8Array;

  /** @param most how many chunks there may be, as far as is known */
  constructor(most: number) {
    const slots = most + 1;
    this.#rawBytes = new Uint32Array(slots);
    this.#storedBytes = new Float32Array(slots);
    this.#firstBackup = new Uint32Array(slots);
    this.#lastGuest = new Uint32Array(slots);
    this.#isShared = new Uint8Array(slots);
  }

  get count(): number {
    return this.#table.count;
  }

  /** Enters a chunk; of several copies the first counts. */
  add(words: Uint32Array, at: number, rawBytes: number, storedBytes: number): ChunkNumber | undefined {
    if (!this.#table.add(words, at)) return undefined;
    const number = this.#table.count;
    if (number === this.#rawBytes.length) this.#grow();
    this.#table.setValue(this.#table.find(words, at), number);
    this.#rawBytes[number] = rawBytes;
    this.#storedBytes[number] = storedBytes;
    return number;
  }

  /** undefined for a chunk that is in no pack. */
  find(words: Uint32Array, at: number): ChunkNumber | undefined {
    const slot = this.#table.find(words, at);
    return slot < 0 ? undefined : this.#table.value(slot);
  }

  /** Notes that a backup of a guest needs the chunk; false if that guest was known to. */
  need(chunk: ChunkNumber, backup: number, guest: number): boolean {
    const last = this.#lastGuest[chunk]!;
    if (last === guest) return false;
    this.#lastGuest[chunk] = guest;
    if (last !== 0) this.#isShared[chunk] = 1;
    const first = this.#firstBackup[chunk]!;
    if (first === 0 || backup < first) this.#firstBackup[chunk] = backup;
    return true;
  }

  rawBytes(chunk: ChunkNumber): number {
    return this.#rawBytes[chunk]!;
  }

  storedBytes(chunk: ChunkNumber): number {
    return this.#storedBytes[chunk]!;
  }

  /** The earliest backup that needs it; 0 if none does. */
  firstBackup(chunk: ChunkNumber): number {
    return this.#firstBackup[chunk]!;
  }

  /** Whether backups of more than one guest need it. */
  isShared(chunk: ChunkNumber): boolean {
    return this.#isShared[chunk] === 1;
  }

  #grow(): void {
    const slots = this.#rawBytes.length * 2;
    this.#rawBytes = grown(new Uint32Array(slots), this.#rawBytes);
    this.#storedBytes = grown(new Float32Array(slots), this.#storedBytes);
    this.#firstBackup = grown(new Uint32Array(slots), this.#firstBackup);
    this.#lastGuest = grown(new Uint32Array(slots), this.#lastGuest);
    this.#isShared = grown(new Uint8Array(slots), this.#isShared);
  }
}

function grown<Numbers extends Uint32Array | Float32Array | Uint8Array>(larger: Numbers, old: Numbers): Numbers {
  larger.set(old);
  return larger;
}
