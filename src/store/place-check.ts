// SPDX-License-Identifier: MIT
// Whether a file system can hold a datastore at all: asked when one is made, since a backup would fail only at its end.

import { closeSync, openSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FailedError, type VmarError } from '../base/errors.js';
import { flock } from '../base/syscalls.js';
import { type StoreFs, storeFailure, systemCode } from './fs.js';

/** Every kind of letter that is in names of ours. Left only where init was cut off. */
export const TRIAL_NAME = '.trial+=_-2026-01-01T00:00:00Z.lock';

/** FAT and exFAT take no colons, nor does NTFS as Windows has it; each driver says that in its own words. */
const BAD_NAME: ReadonlySet<string | undefined> = new Set(['EINVAL', 'ENOENT', 'EILSEQ', 'ENAMETOOLONG']);

/**
 * Makes a file as those of a datastore are, TRIAL_NAME, and removes it again; if it rejects, that is the caller's to do.
 * @throws FailedError 'names-refused' where names are not kept as they are, 'no-locks' where files cannot be locked.
 */
export async function checkPlace(fs: StoreFs, root: string): Promise<void> {
  const path = join(root, TRIAL_NAME);
  await fs.unlink(path).catch(() => undefined);
  await make(fs, root, path);
  if (!(await readdir(root)).includes(TRIAL_NAME)) throw namesRefused(root);
  checkLocks(root, path);
  await fs.unlink(path);
}

async function make(fs: StoreFs, root: string, path: string): Promise<void> {
  try {
    await (await fs.createFile(path)).close();
  } catch (error) {
    throw BAD_NAME.has(systemCode(error)) ? namesRefused(root, error) : error;
  }
}

function namesRefused(root: string, cause?: unknown): VmarError {
  return new FailedError('names-refused', 'the file system does not keep names with colons and capital letters', {
    object: root,
    advice: 'Take one of Linux, as ext4 or XFS; FAT, exFAT and NTFS as Windows has it cannot hold a datastore.',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** One that says yes to everybody is as bad as none. */
function checkLocks(root: string, path: string): void {
  const [first, second] = [openSync(path, 'r+'), openSync(path, 'r+')];
  try {
    if (flock(first, 'exclusive', { wait: false }) && !flock(second, 'exclusive', { wait: false })) return;
    throw storeFailure({ code: 'ENOLCK' }, 'lock files', root);
  } catch (error) {
    throw storeFailure(error, 'lock files', root);
  } finally {
    closeSync(first);
    closeSync(second);
  }
}
