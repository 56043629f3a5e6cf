// SPDX-License-Identifier: MIT
// A new file of a restore while it is being written: it lies beside its target under a name that says so, and gets the
// target's name when it is whole and durable. So a restore that was cut off never passes for one that was finished.

import { randomBytes } from 'node:crypto';
import { open, readdir, rm, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FailedError } from '../base/errors.js';
import { openFileDevice } from '../block/file-device.js';
import { systemCode } from '../store/fs.js';
import { giveName } from '../store/give-name.js';
import { RealFs } from '../store/real-fs.js';

const SUFFIX = /^\.vmar-[0-9a-f]{12}\.partial$/;

export class PartialFile {
  /** Where it lies: the target once it is published. */
  #path: string;
  readonly #target: string;

  private constructor(path: string, target: string) {
    this.#path = path;
    this.#target = target;
  }

  /** Makes it, all zeros, of that length. What restores to the same target left that were cut off is removed first. */
  static async create(target: string, sizeBytes: number): Promise<PartialFile> {
    await removeLeftovers(target);
    const path = `${target}.vmar-${randomBytes(6).toString('hex')}.partial`;
    try {
      const handle = await open(path, 'wx', 0o600);
      try {
        await handle.truncate(sizeBytes);
      } catch (error) {
        await rm(path, { force: true });
        throw error;
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw failure('the target cannot be made', target, error);
    }
    return new PartialFile(path, target);
  }

  get path(): string {
    return this.#path;
  }

  /** Gives it the target's name, durably; its content is durable already. */
  async publish(): Promise<void> {
    try {
      const fs = new RealFs();
      const partial = this.#path;
      await giveName(fs, partial, this.#target);
      this.#path = this.#target;
      await rm(partial, { force: true });
      await fs.fsyncDirectory(dirname(this.#target));
    } catch (error) {
      throw failure('the target cannot be given its name', this.#target, error);
    }
  }

  /** Removes it, published or not. */
  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}

/** Those of living processes are locked, and stay. */
async function removeLeftovers(target: string): Promise<void> {
  const name = basename(target);
  const names = await readdir(dirname(target)).catch(() => []);
  for (const found of names) {
    if (!found.startsWith(name) || !SUFFIX.test(found.slice(name.length))) continue;
    const path = join(dirname(target), found);
    const device = await openFileDevice(path, { readOnly: false }).catch(() => undefined);
    if (device === undefined) continue;
    await unlink(path).catch(() => undefined);
    await device.close();
  }
}

const WORDS: Readonly<Record<string, string>> = {
  EEXIST: 'there is one already',
  ENOENT: 'there is no such directory',
  ENOTDIR: 'a part of the path is no directory',
  EACCES: 'permission is denied',
  EPERM: 'it is not permitted',
  EROFS: 'the file system is read-only',
  ENAMETOOLONG: 'its name is too long',
  ENOSPC: 'no space is left on the device',
};

function failure(problem: string, target: string, error: unknown): FailedError {
  const code = systemCode(error);
  const why = code === undefined ? String(error) : (WORDS[code] ?? code);
  const advice = code === 'ENOENT' ? 'Make its directory first.' : 'Name a place where a file can be written.';
  return new FailedError('target-failed', `${problem}: ${why}`, { object: target, advice, cause: error });
}
