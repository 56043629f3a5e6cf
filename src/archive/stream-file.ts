// SPDX-License-Identifier: MIT
// A stream in the place of a file: what an archive on standard output is written to.

import { FailedError, systemErrorCode } from '../base/errors.js';
import type { StoreFile } from '../store/fs.js';

export class StreamFile implements StoreFile {
  readonly path = '-';
  readonly #stream: NodeJS.WritableStream;
  #failure: unknown;

  constructor(stream: NodeJS.WritableStream) {
    this.#stream = stream;
    stream.on('error', (error) => {
      this.#failure ??= error;
    });
  }

  /** Waits until the reader has taken the bytes: their memory is used again. */
  async write(buffers: readonly Uint8Array[], _offsetBytes: number): Promise<void> {
    for (const buffer of buffers) {
      if (this.#failure !== undefined) throw this.#failed(this.#failure);
      await new Promise<void>((resolve, reject) => {
        this.#stream.write(buffer, (error) => (error ? reject(this.#failed(error)) : resolve()));
      });
    }
  }

  #failed(error: unknown): FailedError {
    const code = systemErrorCode(error);
    return new FailedError('output-failed', `standard output cannot be written: ${code ?? String(error)}`, {
      object: '-',
      advice: code === 'EPIPE' ? 'Whatever reads it ended early.' : 'Check what it goes to.',
      cause: error,
    });
  }

  /** Durability is the reader's. */
  async fsync(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failed(this.#failure);
  }

  async close(): Promise<void> {}
}
