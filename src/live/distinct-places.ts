// SPDX-License-Identifier: MIT
// No file of a live restore is another one of it, whatever names lead there: a state file that takes the name of a
// target would destroy it.

import { readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { systemErrorCode, UsageError } from '../base/errors.js';

/** A path, as the user knows it, and what it is to be. */
export interface NamedPlace {
  readonly path: string;
  readonly use: 'target' | 'state file' | 'socket';
}

const MOST_LINKS = 40;

/** @throws UsageError 'same-place' naming the second of two that lead to one file or device. */
export async function checkDistinct(places: readonly NamedPlace[]): Promise<void> {
  const seen = new Map<string, NamedPlace>();
  for (const place of places) {
    const key = await identityOf(resolve(place.path), MOST_LINKS);
    const other = seen.get(key);
    if (other !== undefined) {
      throw new UsageError('same-place', `a ${other.use} and a ${place.use} would be the same file`, {
        object: place.path,
        ...(other.path === place.path ? {} : { found: other.path }),
        advice: 'Give each disk a target of its own, and its state (--state) and the socket other names.',
      });
    }
    seen.set(key, place);
  }
}

/** Of what is there, the file itself; of what is not there yet, its name in the directory itself. */
async function identityOf(path: string, mostLinks: number): Promise<string> {
  try {
    const found = await stat(path, { bigint: true });
    return found.isBlockDevice() ? `device ${found.rdev}` : `file ${found.dev}:${found.ino}`;
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') return path;
  }
  const link = mostLinks === 0 ? undefined : await readlink(path).catch(() => undefined);
  if (link !== undefined) return await identityOf(resolve(dirname(path), link), mostLinks - 1);
  const directory = await realpath(dirname(path)).catch(() => dirname(path));
  return join(directory, basename(path));
}
