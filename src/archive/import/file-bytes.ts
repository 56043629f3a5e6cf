// SPDX-License-Identifier: MIT
// The bytes of a file; the next piece is read while the one before is worked on.

import { close as closeCallback, fstatSync, open as openCallback, read as readCallback } from 'node:fs';
import { promisify } from 'node:util';
import { FailedError, NotFoundError, systemErrorCode } from '../../base/errors.js';
import { type ByteStream, type ReadingOptions, unreadable } from './byte-stream.js';

const open = promisify(openCallback);
const close = promisify(closeCallback);
const read = promisify(readCallback);

/** What spans two pieces is copied once more; larger ones would only be colder when they are looked at. */
const PIECE_BYTES = 2 << 20;

export class FileBytes implements ByteStream {
  readonly name: string;
  readonly fd: number;
  #ownsFd: boolean;
  readonly #onRead: ((bytes: number) => void) | undefined;
  #pieces: Uint8Array[] = [new Uint8Array(PIECE_BYTES), new Uint8Array(PIECE_BYTES)];
  /** Never rejects before somebody waits for it. */
  #ahead: Promise<Uint8Array | undefined> | undefined;

  private constructor(name: string, fd: number, ownsFd: boolean, options: ReadingOptions) {
    this.name = name;
    this.fd = fd;
    this.#ownsFd = ownsFd;
    this.#onRead = options.onRead;
  }

  /** @throws NotFoundError, FailedError */
  static async open(path: string, options: ReadingOptions = {}): Promise<FileBytes> {
    const fd = await open(path, 'r').catch((error: unknown) => {
      if (systemErrorCode(error) === 'ENOENT') {
        throw new NotFoundError('no-such-file', 'no such file', { object: path, cause: error });
      }
      throw unreadable(path, error);
    });
    try {
      if (!fstatSync(fd).isDirectory()) return new FileBytes(path, fd, true, options);
      throw new FailedError('not-a-file', 'this is a directory', { object: path });
    } catch (error) {
      await close(fd);
      throw error;
    }
  }

  /** A descriptor that stays the caller's. */
  static of(fd: number, name: string, options: ReadingOptions = {}): FileBytes {
    return new FileBytes(name, fd, false, options);
  }

  /** Whoever reads a pipe or socket takes its descriptor: to close it here too would close whatever has its number by then. */
  giveAwayPipe(): void {
    const stat = fstatSync(this.fd);
    if (stat.isFIFO() || stat.isSocket()) this.#ownsFd = false;
  }

  /** The bytes that it begins with, a few, which come again; undefined of what is no regular file. */
  async peek(lengthBytes: number): Promise<Uint8Array | undefined> {
    if (!fstatSync(this.fd).isFile()) return undefined;
    const first = new Uint8Array(lengthBytes);
    try {
      const { bytesRead } = await read(this.fd, first, 0, lengthBytes, 0);
      return first.subarray(0, bytesRead);
    } catch (error) {
      throw unreadable(this.name, error);
    }
  }

  async next(): Promise<Uint8Array | undefined> {
    const piece = await (this.#ahead ?? this.#read());
    this.#ahead = undefined;
    if (piece !== undefined) {
      this.#ahead = this.#read();
      this.#ahead.catch(() => undefined);
    }
    return piece;
  }

  async #read(): Promise<Uint8Array | undefined> {
    const [piece, other] = this.#pieces as [Uint8Array, Uint8Array];
    this.#pieces = [other, piece];
    try {
      const { bytesRead } = await read(this.fd, piece, 0, piece.byteLength, null);
      if (bytesRead === 0) return undefined;
      this.#onRead?.(bytesRead);
      return piece.subarray(0, bytesRead);
    } catch (error) {
      throw unreadable(this.name, error);
    }
  }

  async close(): Promise<void> {
    await this.#ahead?.catch(() => undefined);
    if (this.#ownsFd) await close(this.fd);
  }
}
