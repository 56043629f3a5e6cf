// SPDX-License-Identifier: MIT
// Millions of chunk ids with a number each, in typed arrays: 20 bytes a slot, at most three quarters of the slots in use.
//
// An id stands by its first 16 bytes. That two chunks share them by chance cannot be expected of any number of chunks;
// whoever makes two on purpose, at the cost of 2^64 hashes, makes them both, and harms no one else.

/** Words of 32 bits that an id is known by. */
const WORDS = 4;
const FIRST_SLOTS = 1 << 16;

export class IdTable {
  #keys = new Uint32Array(FIRST_SLOTS * WORDS);
  #values = new Uint32Array(FIRST_SLOTS);
  #mask = FIRST_SLOTS - 1;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Adds the id whose first word is `words[at]`, with the number 0; false if it is there. */
  add(words: Uint32Array, at: number): boolean {
    const slot = this.#slotOf(words, at);
    if (this.#isUsed(slot)) return false;
    const keys = this.#keys;
    const key = slot * WORDS;
    for (let word = 0; word < WORDS; word++) keys[key + word] = words[at + word]!;
    this.#values[slot] = 0;
    if (++this.#count > (this.#mask + 1) * 0.75) this.#grow();
    return true;
  }

  /** The slot of an id, valid until the next `add`; -1 if it is not there. */
  find(words: Uint32Array, at: number): number {
    const slot = this.#slotOf(words, at);
    return this.#isUsed(slot) ? slot : -1;
  }

  value(slot: number): number {
    return this.#values[slot]!;
  }

  setValue(slot: number, value: number): void {
    this.#values[slot] = value;
  }

  /** How many ids have this number. */
  countOf(value: number): number {
    let count = 0;
    for (let slot = 0; slot <= this.#mask; slot++) if (this.#values[slot] === value && this.#isUsed(slot)) count++;
    return count;
  }

  /** No id but that of zeros, which is never added, begins with 16 zero bytes. */
  #isUsed(slot: number): boolean {
    const keys = this.#keys;
    const key = slot * WORDS;
    return (keys[key]! | keys[key + 1]! | keys[key + 2]! | keys[key + 3]!) !== 0;
  }

  /** Where the id is, or where it would be put. Ids are random, so a part of one is as good as a hash. */
  #slotOf(words: Uint32Array, at: number): number {
    const keys = this.#keys;
    const mask = this.#mask;
    const [first, second, third, fourth] = [words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!];
    for (let slot = first & mask; ; slot = (slot + 1) & mask) {
      const key = slot * WORDS;
      if (keys[key] === first && keys[key + 1] === second && keys[key + 2] === third && keys[key + 3] === fourth) {
        return slot;
      }
      if (!this.#isUsed(slot)) return slot;
    }
  }

  #grow(): void {
    const keys = this.#keys;
    const values = this.#values;
    const slots = (this.#mask + 1) * 2;
    this.#keys = new Uint32Array(slots * WORDS);
    this.#values = new Uint32Array(slots);
    this.#mask = slots - 1;
    for (let old = 0; old < values.length; old++) {
      const from = old * WORDS;
      if ((keys[from]! | keys[from + 1]! | keys[from + 2]! | keys[from + 3]!) === 0) continue;
      const slot = this.#slotOf(keys, from);
      this.#keys.set(keys.subarray(from, from + WORDS), slot * WORDS);
      this.#values[slot] = values[old]!;
    }
  }
}

/** The bytes as words, for reading; copied where they are not aligned. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : Uint8Array.prototype.slice.call(bytes);
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >> 2);
}

/** Whether the 32 bytes from a word on are all zero. */
export function isZeroAt(words: Uint32Array, at: number): boolean {
  for (let word = at; word < at + 8; word++) if (words[word] !== 0) return false;
  return true;
}
