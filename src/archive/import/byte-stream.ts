// SPDX-License-Identifier: MIT
// Bytes from front to back, as an importer takes them: from a file, a pipe, or out of a compression.

import { FailedError, systemErrorCode } from '../../base/errors.js';

export interface ByteStream {
  /** For messages. */
  readonly name: string;
  /** The next bytes, valid until the next call; undefined at the end. Not to be called again before it resolves. */
  next(): Promise<Uint8Array | undefined>;
  /** Ends it, wherever it stands. */
  close(): Promise<void>;
}

export interface ReadingOptions {
  /** Told how many more bytes were read. */
  readonly onRead?: (bytes: number) => void;
  /** Whoever waits for bytes then gets InterruptedError. */
  readonly signal?: AbortSignal;
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

export function unreadable(path: string, error: unknown): FailedError {
  const code = systemErrorCode(error);
  return new FailedError('unreadable', `it cannot be read: ${code ?? String(error)}`, { object: path, cause: error });
}
