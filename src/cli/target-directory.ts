// SPDX-License-Identifier: MIT
// The directory that a restore goes to.

import { mkdir, open, rmdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FailedError } from '../base/errors.js';

export class TargetDirectory {
  readonly #path: string | undefined;
  #firstMade: string | undefined;

  /** @param path undefined if there is none */
  constructor(path: string | undefined) {
    this.#path = path === undefined ? undefined : resolve(path);
  }

  /** Makes it, and what is missing above it, durably. */
  async make(): Promise<void> {
    if (this.#path === undefined) return;
    try {
      this.#firstMade = await mkdir(this.#path, { recursive: true });
      if (this.#firstMade === undefined) return;
      for (const path of this.#parentsOfMade()) await sync(path);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new FailedError('no-directory', `the directory cannot be made: ${why}`, {
        object: this.#path,
        cause: error,
      });
    }
  }

  /** Removes what `make` made, where nothing is in it. */
  async removeIfMade(): Promise<void> {
    if (this.#path === undefined || this.#firstMade === undefined) return;
    let path = this.#path;
    try {
      for (const parent of this.#parentsOfMade()) {
        await rmdir(path);
        path = parent;
      }
    } catch {
      // Somebody else's file is in it: it stays.
    }
  }

  /** From the bottom up, to the one that was there. */
  #parentsOfMade(): string[] {
    const parents: string[] = [];
    const top = dirname(this.#firstMade!);
    for (let path = dirname(this.#path!); ; path = dirname(path)) {
      parents.push(path);
      if (path === top) return parents;
    }
  }
}

async function sync(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
