// SPDX-License-Identifier: MIT
// A sparse scratch file for what does not fit in memory: made on first use, unlinked at once, gone with its descriptor.

import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { FailedError, systemErrorCode } from '../base/errors.js';
import { punchHole } from '../base/syscalls.js';

export class Scratch {
  readonly #directory: string;
  #fd = -1;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Reads what was written there; parts never written are zero. */
  read(offsetBytes: number, into: Uint8Array): void {
    if (this.#fd < 0) return;
    let got = 0;
    while (got < into.byteLength) {
      const n = readSync(this.#fd, into, got, into.byteLength - got, offsetBytes + got);
      if (n === 0) return;
      got += n;
    }
  }

  write(offsetBytes: number, from: Uint8Array): void {
    try {
      if (this.#fd < 0) this.#open();
      for (let at = 0; at < from.byteLength; ) {
        at += writeSync(this.#fd, from, at, from.byteLength - at, offsetBytes + at);
      }
    } catch (error) {
      throw new FailedError('scratch-write', `no room for scratch data: ${systemErrorCode(error) ?? String(error)}`, {
        object: this.#directory,
        advice: 'Free space there and run it again.',
        cause: error,
      });
    }
  }

  /** Gives the space of a part back, where the file system can; it reads as zeros then, or as it was. */
  free(offsetBytes: number, lengthBytes: number): void {
    if (this.#fd >= 0) punchHole(this.#fd, offsetBytes, lengthBytes);
  }

  #open(): void {
    const path = join(this.#directory, `scratch-${randomBytes(6).toString('hex')}`);
    this.#fd = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
