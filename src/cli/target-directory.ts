// SPDX-License-Identifier: MIT
// The directory that a restore goes to.

import { mkdir, open, rmdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FailedError, systemErrorCode } from '../base/errors.js';
import { storeFailure } from '../store/fs.js';

export class TargetDirectory {
  readonly #path: string | undefined;
  /** From the top down. */
  readonly #made: string[] = [];

  /** @param path undefined if there is none */
  constructor(path: string | undefined) {
    this.#path = path === undefined ? undefined : resolve(path);
  }

  /** Makes it, and what is missing above it, durably. */
  async make(): Promise<void> {
    if (this.#path === undefined) return;
    try {
      for (const path of (await missing(this.#path)).reverse()) {
        await mkdir(path);
        this.#made.push(path);
        await syncDirectory(dirname(path));
      }
    } catch (error) {
      const { message, advice } = storeFailure(error, 'make the directory', this.#path);
      throw new FailedError('no-directory', message, {
        object: this.#path,
        ...(advice === undefined ? {} : { advice }),
        cause: error,
      });
    }
  }

  /** Removes what `make` made, where nothing is in it. */
  async removeIfMade(): Promise<void> {
    try {
      for (const path of this.#made.reverse()) await rmdir(path);
    } catch {
      // Somebody else's file is in it: it stays.
    }
  }
}

/** The directory and those above it that are not there, from the bottom up. */
async function missing(path: string): Promise<string[]> {
  const paths: string[] = [];
  for (let at = path; !(await isDirectory(at)); at = dirname(at)) paths.push(at);
  return paths;
}

/** False if there is nothing of that name; something else of that name makes mkdir fail. */
async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Once it resolves, the names in the directory are durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
