// SPDX-License-Identifier: MIT
// Cuts pieces of any size, as they come from a file, into what a parser needs next.

const LEAST_BYTES = 4096;

/**
 * What lies whole in a piece is given as a view of it; only what spans pieces is copied. Memory is as large as the
 * longest such span, and follows what came, not what was asked for.
 */
export class PieceCursor {
  #piece: Uint8Array = new Uint8Array(0);
  #at = 0;
  #held = new Uint8Array(LEAST_BYTES);
  #heldBytes = 0;
  #offsetBytes = 0;

  /** Where the next bytes taken lie in the file. */
  get offsetBytes(): number {
    return this.#offsetBytes;
  }

  /** Where the bytes fed so far end in the file. */
  get endBytes(): number {
    return this.#offsetBytes + this.#heldBytes + (this.#piece.byteLength - this.#at);
  }

  /** The next piece; the one before must have been used up. */
  feed(piece: Uint8Array): void {
    this.#piece = piece;
    this.#at = 0;
  }

  /** The next bytes, valid until the next call; undefined if there are not so many yet: feed more. */
  take(lengthBytes: number): Uint8Array | undefined {
    if (this.#heldBytes === 0 && this.#piece.byteLength - this.#at >= lengthBytes) {
      const view = this.#piece.subarray(this.#at, this.#at + lengthBytes);
      this.#at += lengthBytes;
      this.#offsetBytes += lengthBytes;
      return view;
    }
    const held = this.peek(lengthBytes);
    if (held === undefined) return undefined;
    this.#heldBytes -= lengthBytes;
    this.#offsetBytes += lengthBytes;
    return held;
  }

  /** Like `take`, and the bytes come again. Asks must not become shorter until they are taken. */
  peek(lengthBytes: number): Uint8Array | undefined {
    const wanted = Math.min(lengthBytes - this.#heldBytes, this.#piece.byteLength - this.#at);
    if (wanted > 0) {
      this.#reserve(this.#heldBytes + wanted, lengthBytes);
      this.#held.set(this.#piece.subarray(this.#at, this.#at + wanted), this.#heldBytes);
      this.#at += wanted;
      this.#heldBytes += wanted;
    }
    return this.#heldBytes >= lengthBytes ? this.#held.subarray(0, lengthBytes) : undefined;
  }

  /** What was fed and not taken, where no piece is left. */
  rest(): Uint8Array {
    return this.#held.subarray(0, this.#heldBytes);
  }

  /** Gives memory back, when nothing is held. */
  shrink(mostBytes: number): void {
    if (this.#heldBytes === 0 && this.#held.byteLength > mostBytes) this.#held = new Uint8Array(LEAST_BYTES);
  }

  #reserve(leastBytes: number, mostBytes: number): void {
    if (leastBytes <= this.#held.byteLength) return;
    const larger = new Uint8Array(
      Math.min(Math.max(leastBytes, this.#held.byteLength * 2), Math.max(mostBytes, leastBytes)),
    );
    larger.set(this.#held.subarray(0, this.#heldBytes));
    this.#held = larger;
  }
}
