// SPDX-License-Identifier: MIT
// Shared memory for raw frames, within a bound: pieces of a few sizes, used again and again.

/** The smallest piece; a whole cluster of the smallest size. */
const LEAST_BYTES = 64 << 10;

export class FrameMemory {
  readonly #mostBytes: number;
  /** Pieces that nobody uses, by their size. */
  readonly #free = new Map<number, SharedArrayBuffer[]>();
  #freeBytes = 0;
  #usedBytes = 0;

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** Memory of at least so many bytes and unknown content; undefined if some must be given back first. */
  take(lengthBytes: number): SharedArrayBuffer | undefined {
    const size = pieceBytes(lengthBytes);
    const known = this.#free.get(size)?.pop();
    if (known !== undefined) {
      this.#freeBytes -= size;
      this.#usedBytes += size;
      return known;
    }
    if (this.#usedBytes + size > this.#mostBytes) return undefined;
    // Pieces of other sizes go first; they are few.
    if (this.#usedBytes + this.#freeBytes + size > this.#mostBytes) this.#dropFree();
    this.#usedBytes += size;
    return new SharedArrayBuffer(size);
  }

  giveBack(memory: SharedArrayBuffer): void {
    this.forget(memory);
    const list = this.#free.get(memory.byteLength);
    if (list === undefined) this.#free.set(memory.byteLength, [memory]);
    else list.push(memory);
    this.#freeBytes += memory.byteLength;
  }

  /** Gives up memory that somebody may still write to. */
  forget(memory: SharedArrayBuffer): void {
    this.#usedBytes -= memory.byteLength;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  #dropFree(): void {
    this.#free.clear();
    this.#freeBytes = 0;
  }
}

/** The next power of two: frames are mostly of one size, and so can share their memory. */
function pieceBytes(lengthBytes: number): number {
  let size = LEAST_BYTES;
  while (size < lengthBytes) size *= 2;
  return size;
}
