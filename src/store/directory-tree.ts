// SPDX-License-Identifier: MIT
// Directories made and removed in depth.

import { readdir } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { BugError } from '../base/errors.js';
import { type StoreFs, storeFailure, systemCode } from './fs.js';

/** The directories from below `root` down to `path`, itself included, outermost first. */
function chain(root: string, path: string): string[] {
  const inside = relative(root, path);
  if (inside.startsWith('..')) throw new BugError(`${path} does not lie in ${root}`);
  const parts = inside === '' ? [] : inside.split(sep);
  return parts.map((_, index) => join(root, ...parts.slice(0, index + 1)));
}

/** Makes what is missing of `path` below `root`, which exists. Nothing is durable yet. */
export async function makeDirectories(fs: StoreFs, root: string, path: string): Promise<void> {
  for (const directory of chain(root, path)) {
    try {
      await fs.mkdir(directory);
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
  }
}

/**
 * Makes the names in `path` durable, and those of the directories that lead to it from `root`, innermost first. All of
 * them each time: a directory that another process made just now may not be durable yet.
 */
export async function syncDirectories(fs: StoreFs, root: string, path: string): Promise<void> {
  for (const directory of chain(root, path).reverse()) await fs.fsyncDirectory(directory);
  await fs.fsyncDirectory(root);
}

/** Removes a directory and all that is in it; what is gone already is no failure. Symbolic links are not followed. */
export async function removeTree(fs: StoreFs, path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return [];
    throw storeFailure(error, 'list the directory', path);
  });
  for (const entry of entries) {
    const inside = join(path, entry.name);
    if (entry.isDirectory()) await removeTree(fs, inside);
    else await unlessMissing(fs.unlink(inside));
  }
  await unlessMissing(fs.rmdir(path));
}

/** Settles as the promise does, but a file that is not there is fine. */
export async function unlessMissing(removal: Promise<void>): Promise<void> {
  try {
    await removal;
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}
