// SPDX-License-Identifier: MIT
// The bytes of a pipe or socket. Reads of files wait in libuv's threads, where nobody can call them off: a program whose
// standard input is silent could not be interrupted.

import { Socket } from 'node:net';
import { type ByteStream, type ReadingOptions, unreadable } from './byte-stream.js';

export class PipeBytes implements ByteStream {
  readonly name: string;
  readonly #socket: Socket;
  readonly #pieces: AsyncIterator<Uint8Array>;
  readonly #onRead: ((bytes: number) => void) | undefined;

  /** Takes the descriptor: it is closed with the stream. */
  constructor(fd: number, name: string, options: ReadingOptions = {}) {
    this.name = name;
    this.#socket = new Socket({ fd, readable: true, writable: false });
    this.#pieces = this.#socket[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    this.#onRead = options.onRead;
  }

  async next(): Promise<Uint8Array | undefined> {
    try {
      const { value, done } = await this.#pieces.next();
      if (done === true) return undefined;
      this.#onRead?.(value.byteLength);
      return value;
    } catch (error) {
      throw unreadable(this.name, error);
    }
  }

  async close(): Promise<void> {
    this.#socket.destroy();
  }
}
