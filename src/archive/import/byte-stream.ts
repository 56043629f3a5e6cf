// SPDX-License-Identifier: MIT
// The bytes of a file from front to back, as an importer takes them: from a file, a pipe, or out of a compression.

import { close as closeCallback, fstatSync, open as openCallback, read as readCallback } from 'node:fs';
import { promisify } from 'node:util';
import { FailedError, NotFoundError, systemErrorCode } from '../../base/errors.js';

const open = promisify(openCallback);
const close = promisify(closeCallback);
const read = promisify(readCallback);

export interface ByteStream {
  /** For messages. */
  readonly name: string;
  /** The next bytes, valid until the next call; undefined at the end. Not to be called again before it resolves. */
  next(): Promise<Uint8Array | undefined>;
  /** Ends it, wherever it stands. */
  close(): Promise<void>;
}

export interface FileBytesOptions {
  /** Told how many more bytes were read. */
  readonly onRead?: (bytes: number) => void;
}

/** What spans two pieces is copied once more; larger ones would only be colder when they are looked at. */
const PIECE_BYTES = 2 << 20;

/** A file or pipe; the next piece is read while the one before is worked on. */
export class FileBytes implements ByteStream {
  readonly name: string;
  /** undefined where it cannot be known. */
  readonly sizeBytes: number | undefined;
  readonly #fd: number;
  readonly #ownsFd: boolean;
  readonly #onRead: ((bytes: number) => void) | undefined;
  #pieces: Uint8Array[] = [new Uint8Array(PIECE_BYTES), new Uint8Array(PIECE_BYTES)];
  /** Never rejects before somebody waits for it. */
  #ahead: Promise<Uint8Array | undefined> | undefined;

  private constructor(name: string, fd: number, ownsFd: boolean, options: FileBytesOptions) {
    const stat = fstatSync(fd);
    this.name = name;
    this.sizeBytes = stat.isFile() ? stat.size : undefined;
    this.#fd = fd;
    this.#ownsFd = ownsFd;
    this.#onRead = options.onRead;
  }

  /** @throws NotFoundError, FailedError */
  static async open(path: string, options: FileBytesOptions = {}): Promise<FileBytes> {
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
  static of(fd: number, name: string, options: FileBytesOptions = {}): FileBytes {
    return new FileBytes(name, fd, false, options);
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
      const { bytesRead } = await read(this.#fd, piece, 0, piece.byteLength, null);
      if (bytesRead === 0) return undefined;
      this.#onRead?.(bytesRead);
      return piece.subarray(0, bytesRead);
    } catch (error) {
      throw unreadable(this.name, error);
    }
  }

  async close(): Promise<void> {
    // Of a pipe that nobody writes to, the read ahead may never end.
    if (!this.#ownsFd) return;
    await this.#ahead?.catch(() => undefined);
    await close(this.#fd);
  }
}

/** Gives bytes that were looked at already once more, before the rest. */
export class BytesAgain implements ByteStream {
  readonly name: string;
  readonly #rest: ByteStream;
  #first: Uint8Array | undefined;

  constructor(first: Uint8Array, rest: ByteStream) {
    this.name = rest.name;
    this.#first = first.byteLength === 0 ? undefined : first;
    this.#rest = rest;
  }

  async next(): Promise<Uint8Array | undefined> {
    const first = this.#first;
    if (first === undefined) return await this.#rest.next();
    this.#first = undefined;
    return first;
  }

  async close(): Promise<void> {
    await this.#rest.close();
  }
}

/** The first bytes, as many as asked for or all there are; they are a copy. */
export async function firstBytes(stream: ByteStream, lengthBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let got = 0;
  while (got < lengthBytes) {
    const piece = await stream.next();
    if (piece === undefined) break;
    parts.push(Uint8Array.from(piece));
    got += piece.byteLength;
  }
  return Buffer.concat(parts);
}

function unreadable(path: string, error: unknown): FailedError {
  const code = systemErrorCode(error);
  return new FailedError('unreadable', `it cannot be read: ${code ?? String(error)}`, { object: path, cause: error });
}
