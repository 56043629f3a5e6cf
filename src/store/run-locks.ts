// SPDX-License-Identifier: MIT
// Which runs of jobs are under way: each holds a lock that is named after its report, and the kernel gives the lock up
// however the run ends. It is no session: one that lasts a whole night would keep gc from deleting anything.

import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Datastore } from './datastore.js';
import { makeDirectories, unlessMissing } from './directory-tree.js';
import { directoryPath, isRunLock, runLockPath } from './layout.js';
import { isLocked, type Lock, tryLock, tryLockExisting } from './locks.js';

function lockOf(root: string, reportPath: string): string {
  return runLockPath(root, basename(reportPath, '.report'));
}

/**
 * Says that the run with this report is under way; to be called before the report is there. What killed runs left is
 * removed first.
 * @throws FailedError if the datastore is not there any more, or full, or cannot be written to
 */
export async function lockRun(store: Datastore, reportPath: string): Promise<Lock> {
  const { fs, root } = store;
  store.checkWritable();
  await store.checkReachable();
  await makeDirectories(fs, root, directoryPath(root, 'locks'));
  await removeDeadLocks(store);
  for (;;) {
    const lock = await tryLock(fs, lockOf(root, reportPath), 'exclusive', 'a nightly job');
    if (lock !== undefined) return lock;
    // Another run takes the new file for one that a dead run left; it is about to remove it.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** May be called twice. Never rejects: what cannot be removed is left to the next run. */
export async function unlockRun({ fs, log }: Datastore, lock: Lock): Promise<void> {
  try {
    if (lock.isIntact()) await unlessMissing(fs.unlink(lock.path));
  } catch (error) {
    log.debug(`the lock of a run cannot be removed: ${String(error)}`);
  }
  await lock.release();
}

/** Whether the run that has this report is under way, as far as this host can tell. */
export function isRunAlive(root: string, reportPath: string): boolean {
  return isLocked(lockOf(root, reportPath));
}

async function removeDeadLocks({ root, fs, log }: Datastore): Promise<void> {
  const directory = directoryPath(root, 'locks');
  try {
    for (const name of (await readdir(directory)).filter(isRunLock)) {
      const lock = await tryLockExisting(join(directory, name), 'exclusive');
      if (lock === undefined) continue;
      try {
        await unlessMissing(fs.unlink(lock.path));
      } finally {
        await lock.release();
      }
    }
  } catch (error) {
    log.debug(`what killed runs left cannot be removed: ${String(error)}`);
  }
}
