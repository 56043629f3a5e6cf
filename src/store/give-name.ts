// SPDX-License-Identifier: MIT
// A finished file gets its name, and takes it from no other.

import { lstat } from 'node:fs/promises';
import { type StoreFs, storeFailure, systemCode } from './fs.js';

/** What file systems without hard links say: FAT, exFAT, some network shares. */
const NO_LINKS: ReadonlySet<string | undefined> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/**
 * Gives the file the name `to` in one step; EEXIST if there is anything of that name. The old name may stay beside the
 * new one, and is the caller's to remove. Where the file system has no hard links, callers who may want the same name at
 * the same moment must exclude each other.
 */
export async function giveName(fs: StoreFs, from: string, to: string): Promise<void> {
  try {
    await fs.link(from, to);
  } catch (error) {
    // A file server that answered too late is asked again, and says that there is what it has just made.
    if (systemCode(error) === 'EEXIST' && (await isSame(from, to))) return;
    if (!NO_LINKS.has(systemCode(error))) throw error;
    if (await isThere(to)) throw storeFailure({ code: 'EEXIST' }, 'give the file its name', to);
    await fs.rename(from, to);
  }
}

async function isSame(from: string, to: string): Promise<boolean> {
  const [mine, named] = await Promise.all([lstat(from), lstat(to)]).catch(() => []);
  return mine !== undefined && named !== undefined && mine.ino === named.ino && mine.dev === named.dev;
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw storeFailure(error, 'look for the file', path);
  }
}
