// SPDX-License-Identifier: MIT
// Opens and closes the index's files so that several processes may share them and none ever opens torn ones.
//
// `index.lock` is held shared by everyone who has the index open. Whoever gets it exclusively is alone: only then are the
// files judged, removed, or declared clean. A state that is good to join was written by someone who judged them.
// LMDB's own calls pass through the gate besides (index-gate.ts).

import { closeSync, existsSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { toHex } from '../base/bytes.js';
import { FailedError, systemErrorCode } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { flock } from '../base/syscalls.js';
import { storeFailure } from './fs.js';
import { IndexGate } from './index-gate.js';
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
import { enterUser, forgetDeadUsers, isTrustworthy } from './index-users.js';
import { indexDirectory } from './layout.js';

/** Others judge or close in milliseconds; a rebuild of theirs happens under the shared lock. */
const WAIT_MILLIS = 30_000;
const POLL_MILLIS = 20;

/** What this process has open, by directory: LMDB must not be opened twice in one process. */
const openFiles = new Map<string, Promise<IndexFiles>>();

export class IndexFiles {
  readonly directory: string;
  readonly dbs: IndexDbs;
  readonly #store: string;
  readonly #lockFd: number;
  readonly #gate: IndexGate;
  readonly #leave: () => void;
  #users = 1;
  #closed: Promise<void> | undefined;
  #markedDirty = false;

  private constructor(
    directory: string,
    store: string,
    dbs: IndexDbs,
    lockFd: number,
    gate: IndexGate,
    leave: () => void,
  ) {
    this.directory = directory;
    this.#leave = leave;
    this.#store = store;
    this.dbs = dbs;
    this.#lockFd = lockFd;
    this.#gate = gate;
  }

  /**
   * Opens the store's index below `cacheDir`, a new and empty one where what is there cannot be used. Each `open` is
   * paired with a `close`.
   */
  static async open(cacheDir: string, storeUuid: Uint8Array, log: Log): Promise<IndexFiles> {
    const directory = indexDirectory(cacheDir, storeUuid);
    for (let open = openFiles.get(directory); open !== undefined; open = openFiles.get(directory)) {
      const files = await open;
      if (files.#closed === undefined) {
        files.#users++;
        return files;
      }
      await files.#closed;
    }
    const opening = IndexFiles.#open(directory, storeUuid, log);
    openFiles.set(directory, opening);
    try {
      return await opening;
    } catch (error) {
      openFiles.delete(directory);
      throw error;
    }
  }

  static async #open(directory: string, storeUuid: Uint8Array, log: Log): Promise<IndexFiles> {
    const lockFd = makeDirectory(directory);
    let gate: IndexGate | undefined;
    try {
      gate = new IndexGate(statePaths(directory));
      const { dbs, leave } = await IndexFiles.#openLocked(directory, storeUuid, lockFd, gate, log);
      return new IndexFiles(directory, toHex(storeUuid), dbs, lockFd, gate, leave);
    } catch (error) {
      gate?.close();
      closeSync(lockFd);
      throw openFailure(error, directory);
    }
  }

  static async #openLocked(
    directory: string,
    storeUuid: Uint8Array,
    lockFd: number,
    gate: IndexGate,
    log: Log,
  ): Promise<{ dbs: IndexDbs; leave: () => void }> {
    const alone = await takeLock(lockFd, directory, toHex(storeUuid));
    const isTrusted = !alone || isTrustworthy(directory);
    const leave = enterUser(directory);
    try {
      const dbs = await gate.run(() => {
        return alone ? openAlone(directory, storeUuid, gate, log, isTrusted) : openBeside(directory, storeUuid, gate);
      });
      if (alone) await shareLock(lockFd, directory);
      return { dbs, leave };
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** Called before anything is written. */
  markDirty(): void {
    if (this.#markedDirty) return;
    writeState(statePaths(this.directory).state, dirtyState(this.#store));
    this.#markedDirty = true;
  }

  /** The last to close, in all processes, makes the data durable and says so. */
  async close(): Promise<void> {
    if (--this.#users > 0) return;
    this.#closed = this.#close().finally(() => openFiles.delete(this.directory));
    await this.#closed;
  }

  async #close(): Promise<void> {
    await this.#gate.run(() => this.dbs.env.close());
    this.#gate.close();
    try {
      this.#leave();
      if (flock(this.#lockFd, 'exclusive', { wait: false })) await this.#declareClean();
    } catch {
      // A cache that is not known to be clean is made again when it must be.
    } finally {
      closeSync(this.#lockFd);
    }
  }

  async #declareClean(): Promise<void> {
    const paths = statePaths(this.directory);
    forgetDeadUsers(this.directory);
    if (readState(paths.state)?.clean !== undefined) return;
    await syncFile(paths.data);
    const stamp = stampOf(paths.data);
    if (stamp !== undefined) writeState(paths.state, cleanState(this.#store, stamp));
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
    makeMissing(directory);
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

/** Node's own recursive mkdir never ends where nothing can be made in a directory that is there, as in /proc. */
function makeMissing(directory: string): void {
  const missing: string[] = [];
  for (let at = resolve(directory); !existsSync(at); at = dirname(at)) missing.push(at);
  for (const path of missing.reverse()) {
    try {
      mkdirSync(path, 0o700);
    } catch (error) {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
    }
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

async function openBeside(directory: string, storeUuid: Uint8Array, gate: IndexGate): Promise<IndexDbs> {
  const dbs = openThrough(gate, directory);
  if (claimFor(dbs, storeUuid)) return dbs;
  await dbs.env.close();
  throw new FailedError('index-foreign', 'the chunk index in use is of another datastore or version', {
    object: directory,
    advice: 'End other vmar processes and run it again.',
  });
}

function openThrough(gate: IndexGate, directory: string): IndexDbs {
  return openDbs(statePaths(directory).environment, (action) => gate.run(action));
}

async function openAlone(
  directory: string,
  storeUuid: Uint8Array,
  gate: IndexGate,
  log: Log,
  isTrusted: boolean,
): Promise<IndexDbs> {
  const paths = statePaths(directory);
  const store = toHex(storeUuid);
  const state = readState(paths.state);
  let problem = isTrusted ? whyNot(state, store, paths.data) : 'several commands were killed while they had it open';
  if (problem === undefined) {
    try {
      const dbs = openThrough(gate, directory);
      if (claimFor(dbs, storeUuid)) {
        if (state === undefined) writeState(paths.state, dirtyState(store));
        return dbs;
      }
      await dbs.env.close();
      problem = 'it is of another datastore or version';
    } catch (error) {
      problem = `it cannot be opened (${error instanceof Error ? error.message : String(error)})`;
    }
  }
  log.info(`the chunk index in ${directory} is made anew: ${problem}`);
  rmSync(paths.state, { force: true });
  rmSync(paths.environment, { recursive: true, force: true });
  const dbs = openThrough(gate, directory);
  claimFor(dbs, storeUuid);
  writeState(paths.state, dirtyState(store));
  return dbs;
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
