// SPDX-License-Identifier: MIT
// Opens and closes the index's files so that several processes may share them and none ever opens torn ones.
//
// `index.lock` is held shared by everyone who has the index open. Whoever gets it exclusively is alone: only then are the
// files judged, removed, or declared clean. A state that is good to join was written by someone who judged them.

import { closeSync, fsyncSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { toHex } from '../base/bytes.js';
import { FailedError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { flock } from '../base/syscalls.js';
import { storeFailure } from './fs.js';
import { claimFor, type IndexDbs, openDbs } from './index-schema.js';
import {
  cleanState,
  dirtyState,
  isJoinable,
  readState,
  stampOf,
  statePaths,
  whyNot,
  writeState,
} from './index-state.js';

/** Others judge or close in milliseconds; a rebuild of theirs happens under the shared lock. */
const WAIT_MILLIS = 30_000;
const POLL_MILLIS = 20;

export class IndexFiles {
  readonly directory: string;
  readonly dbs: IndexDbs;
  readonly #store: string;
  readonly #lockFd: number;
  #markedDirty = false;

  private constructor(directory: string, store: string, dbs: IndexDbs, lockFd: number) {
    this.directory = directory;
    this.#store = store;
    this.dbs = dbs;
    this.#lockFd = lockFd;
  }

  /** Opens the store's index below `cacheDir`, a new and empty one where what is there cannot be used. */
  static async open(cacheDir: string, storeUuid: Uint8Array, log: Log): Promise<IndexFiles> {
    const store = toHex(storeUuid);
    const directory = join(cacheDir, store);
    const lockFd = makeDirectory(directory);
    try {
      const alone = await takeLock(lockFd, directory, store);
      const dbs = alone ? openAlone(directory, storeUuid, store, log) : openBeside(directory, storeUuid);
      const files = new IndexFiles(directory, store, dbs, lockFd);
      if (alone) await shareLock(lockFd, directory);
      return files;
    } catch (error) {
      closeSync(lockFd);
      throw openFailure(error, directory);
    }
  }

  /** Called before anything is written. */
  markDirty(): void {
    if (this.#markedDirty) return;
    writeState(statePaths(this.directory).state, dirtyState(this.#store));
    this.#markedDirty = true;
  }

  /** The last to close makes the data durable and says so. */
  async close(): Promise<void> {
    const paths = statePaths(this.directory);
    await this.dbs.env.close();
    try {
      if (!flock(this.#lockFd, 'exclusive', { wait: false })) return;
      if (readState(paths.state)?.clean !== undefined) return;
      syncFile(paths.data);
      const stamp = stampOf(paths.data);
      if (stamp !== undefined) writeState(paths.state, cleanState(this.#store, stamp));
    } catch {
      // A cache that is not known to be clean is made again when it must be.
    } finally {
      closeSync(this.#lockFd);
    }
  }
}

function openFailure(error: unknown, directory: string): Error {
  if (error instanceof FailedError) return error;
  return new FailedError('index-failed', `the chunk index cannot be opened: ${String(error)}`, {
    object: directory,
    advice: 'Remove that directory, or name another with VMAR_CACHE_DIR; nothing is lost by either.',
    cause: error,
  });
}

/** Makes the cache directory; gives the descriptor of its lock file. */
function makeDirectory(directory: string): number {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return openSync(statePaths(directory).lock, 'a', 0o600);
  } catch (error) {
    const { message, code, advice } = storeFailure(error, 'make the cache directory', directory);
    throw new FailedError(code, message, {
      object: directory,
      advice: `${advice ?? ''} Or name another cache directory with VMAR_CACHE_DIR.`.trim(),
      cause: error,
    });
  }
}

/** True: held exclusively. False: held shared, beside others who judged the files. */
async function takeLock(lockFd: number, directory: string, store: string): Promise<boolean> {
  const end = performance.now() + WAIT_MILLIS;
  while (performance.now() < end) {
    if (flock(lockFd, 'exclusive', { wait: false })) return true;
    if (flock(lockFd, 'shared', { wait: false })) {
      if (isJoinable(readState(statePaths(directory).state), store)) return false;
      flock(lockFd, 'unlock', { wait: false });
    }
    await delay(POLL_MILLIS);
  }
  throw indexBusy(directory);
}

/**
 * Gives up being alone. The kernel changes a lock in two steps, and another may come between them; it will find nothing
 * to remove, and let go soon.
 */
async function shareLock(lockFd: number, directory: string): Promise<void> {
  const end = performance.now() + WAIT_MILLIS;
  while (!flock(lockFd, 'shared', { wait: false })) {
    if (performance.now() > end) throw indexBusy(directory);
    await delay(POLL_MILLIS);
  }
}

function indexBusy(directory: string): FailedError {
  return new FailedError('index-busy', 'the chunk index is held by another process and cannot be shared with it', {
    object: directory,
    advice: 'End other vmar processes, or name another cache directory with VMAR_CACHE_DIR.',
  });
}

function openBeside(directory: string, storeUuid: Uint8Array): IndexDbs {
  const dbs = openDbs(statePaths(directory).environment);
  if (claimFor(dbs, storeUuid)) return dbs;
  void dbs.env.close();
  throw new FailedError('index-foreign', 'the chunk index in use is of another datastore or version', {
    object: directory,
    advice: 'End other vmar processes and run it again.',
  });
}

function openAlone(directory: string, storeUuid: Uint8Array, store: string, log: Log): IndexDbs {
  const paths = statePaths(directory);
  const state = readState(paths.state);
  let problem = whyNot(state, store, paths.data);
  if (problem === undefined) {
    try {
      const dbs = openDbs(paths.environment);
      if (claimFor(dbs, storeUuid)) {
        if (state === undefined) writeState(paths.state, dirtyState(store));
        return dbs;
      }
      void dbs.env.close();
      problem = 'it is of another datastore or version';
    } catch (error) {
      problem = `it cannot be opened (${error instanceof Error ? error.message : String(error)})`;
    }
  }
  log.info(`the chunk index in ${directory} is made anew: ${problem}`);
  rmSync(paths.state, { force: true });
  rmSync(paths.environment, { recursive: true, force: true });
  const dbs = openDbs(paths.environment);
  claimFor(dbs, storeUuid);
  writeState(paths.state, dirtyState(store));
  return dbs;
}

function syncFile(path: string): void {
  const fd = openSync(path, 'r+');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
