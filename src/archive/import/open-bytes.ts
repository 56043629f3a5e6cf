// SPDX-License-Identifier: MIT
// A file, or a descriptor, as the bytes of the archive in it: without its compression, if it has one. What it is, its first
// bytes say, not its name.

import { type ByteStream, BytesAgain, firstBytes, type ReadingOptions } from './byte-stream.js';
import { isCompressed, SNIFFED_BYTES } from './decompressed.js';
import { FileBytes } from './file-bytes.js';
import { ThreadedBytes } from './threaded-bytes.js';

/** A file by its path, or a descriptor by the name that it goes by. */
export type ByteSource = string | { readonly fd: number; readonly name: string };

export interface OpenBytes extends ByteStream {
  /** The file itself, where it is a regular one that is not compressed: then it can be read anywhere. */
  readonly plainFile: FileBytes | undefined;
}

/** @throws NotFoundError, FailedError */
export async function openBytes(source: ByteSource, options: ReadingOptions = {}): Promise<OpenBytes> {
  const file =
    typeof source === 'string' ? await FileBytes.open(source, options) : FileBytes.of(source.fd, source.name, options);
  try {
    const first = await file.peek(SNIFFED_BYTES);
    if (first !== undefined && !isCompressed(first)) return new Opened(file, undefined);
    const threaded = new ThreadedBytes(file.fd, file.name, options);
    file.giveAwayPipe();
    return new Opened(file, threaded);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The stream, and the bytes that it begins with, which it gives again. */
export async function sniffed(
  stream: ByteStream,
  lengthBytes: number,
): Promise<{ readonly first: Uint8Array; readonly stream: ByteStream }> {
  const first = await firstBytes(stream, lengthBytes);
  return { first, stream: new BytesAgain(first, stream) };
}

class Opened implements OpenBytes {
  readonly name: string;
  readonly #file: FileBytes;
  readonly #threaded: ThreadedBytes | undefined;

  constructor(file: FileBytes, threaded: ThreadedBytes | undefined) {
    this.name = file.name;
    this.#file = file;
    this.#threaded = threaded;
  }

  get plainFile(): FileBytes | undefined {
    return this.#threaded === undefined ? this.#file : undefined;
  }

  next(): Promise<Uint8Array | undefined> {
    return (this.#threaded ?? this.#file).next();
  }

  async close(): Promise<void> {
    await this.#threaded?.close();
    await this.#file.close();
  }
}
