// SPDX-License-Identifier: MIT
// The thread's side of the memory that ThreadedBytes shares with it.

import { FailedError } from '../../base/errors.js';
import { copyBytes } from '../../base/syscalls.js';

export interface FilledPiece {
  readonly index: number;
  readonly lengthBytes: number;
}

/** Pieces are filled in place by whoever `take`s one, or by copying. One user at a time. */
export class PieceRooms {
  readonly #pieces: readonly Buffer[];
  readonly #free: number[];
  #wake: (() => void) | undefined;
  #isClosed = false;
  /** Being filled by copying. */
  #open: { readonly index: number; filledBytes: number } | undefined;

  constructor(memory: readonly SharedArrayBuffer[]) {
    this.#pieces = memory.map((piece) => Buffer.from(piece));
    this.#free = this.#pieces.map((_, index) => index);
  }

  /** A piece to fill from its start on; waits for one. */
  async take(): Promise<Buffer> {
    return this.#piece(await this.#acquire());
  }

  giveBack(index: number): void {
    this.#free.push(index);
    this.#wake?.();
  }

  /** Who waits for one gets an error, now and later. */
  close(): void {
    this.#isClosed = true;
    this.#wake?.();
  }

  /** The pieces that are full with these bytes: of a piece that was taken its start, of other memory copies. */
  async *fill(bytes: Uint8Array): AsyncGenerator<FilledPiece> {
    const own = this.#pieces.findIndex((piece) => piece.buffer === bytes.buffer);
    if (own >= 0) {
      yield { index: own, lengthBytes: bytes.byteLength };
      return;
    }
    for (let done = 0; done < bytes.byteLength; ) {
      this.#open ??= { index: await this.#acquire(), filledBytes: 0 };
      const { index, filledBytes } = this.#open;
      const room = this.#piece(index).subarray(filledBytes);
      const some = bytes.subarray(done, done + room.byteLength);
      copyBytes(room, some);
      done += some.byteLength;
      this.#open.filledBytes += some.byteLength;
      if (some.byteLength === room.byteLength) yield* this.rest();
    }
  }

  /** What was copied and did not fill a piece. */
  *rest(): Generator<FilledPiece> {
    if (this.#open === undefined) return;
    const { index, filledBytes } = this.#open;
    this.#open = undefined;
    yield { index, lengthBytes: filledBytes };
  }

  async #acquire(): Promise<number> {
    for (;;) {
      if (this.#isClosed) throw new FailedError('aborted', 'nobody wants the rest');
      const index = this.#free.pop();
      if (index !== undefined) return index;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #piece(index: number): Buffer {
    return this.#pieces[index] as Buffer;
  }
}
