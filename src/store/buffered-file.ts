// SPDX-License-Identifier: MIT
// A StoreFile over a plain descriptor, through the page cache.

import type { FileHandle } from 'node:fs/promises';
import { BugError, type VmarError } from '../base/errors.js';
import { type StoreFile, storeFailure } from './fs.js';

export class BufferedFile implements StoreFile {
  readonly path: string;
  readonly #handle: FileHandle;
  #endBytes = 0;
  #failure: VmarError | undefined;
  #closed = false;

  constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  async write(buffers: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    this.#check(offsetBytes);
    try {
      for (const buffer of buffers) {
        await writeFully(this.#handle, buffer, this.#endBytes);
        this.#endBytes += buffer.byteLength;
      }
    } catch (error) {
      throw this.#poison(storeFailure(error, 'write', this.path));
    }
  }

  async fsync(): Promise<void> {
    this.#check(this.#endBytes);
    try {
      await this.#handle.sync();
    } catch (error) {
      throw this.#poison(storeFailure(error, 'make the file durable', this.path));
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#handle.close();
    } catch (error) {
      if (this.#failure === undefined) throw this.#poison(storeFailure(error, 'close', this.path));
    }
  }

  #check(offsetBytes: number): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) throw new BugError(`${this.path} is written after it was closed`);
    if (offsetBytes !== this.#endBytes) {
      throw new BugError(`${this.path} is written at ${offsetBytes}, but ends at ${this.#endBytes}`);
    }
  }

  #poison(error: VmarError): VmarError {
    this.#failure ??= error;
    return error;
  }
}

/** Writes all bytes at the position; a short write goes on until it is whole or fails. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}
