// SPDX-License-Identifier: MIT
// A file seen through a window that slides forward: large sequential reads, small requests.

import { readUpTo } from './positioned-read.js';
import { Scratch } from './thread-tools.js';

const windowScratch = new Scratch();

export class FileWindow {
  readonly #fd: number;
  readonly #object: string;
  readonly #end: number;
  readonly #blockBytes: number;
  #start = 0;
  #bytes: Buffer = Buffer.alloc(0);

  /** Reads nothing at or past `end`; a read takes `blockBytes` where that much is left. One window a thread at a time. */
  constructor(fd: number, object: string, end: number, blockBytes: number) {
    this.#fd = fd;
    this.#object = object;
    this.#end = end;
    this.#blockBytes = blockBytes;
  }

  /** Exactly `length` bytes, valid until the next call; undefined if the medium does not give them. */
  view(offset: number, length: number): Buffer | undefined {
    const bytes = this.upTo(offset, length);
    return bytes.byteLength === length ? bytes : undefined;
  }

  /** `length` bytes, or those before the first that cannot be read; valid until the next call. */
  upTo(offset: number, length: number): Buffer {
    if (offset < this.#start || offset + length > this.#start + this.#bytes.byteLength) this.#fill(offset, length);
    const at = offset - this.#start;
    return this.#bytes.subarray(at, at + length);
  }

  #fill(offset: number, wanted: number): void {
    const length = Math.max(wanted, Math.min(this.#blockBytes, this.#end - offset));
    const into = windowScratch.take(length);
    // What is unreadable further on in the block does not cost the bytes before it.
    const { got } = readUpTo(this.#fd, into, length, offset, this.#object);
    this.#start = offset;
    this.#bytes = into.subarray(0, got);
  }
}
