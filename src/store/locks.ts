// SPDX-License-Identifier: MIT
// Locks between processes: flock on a file. The kernel gives a lock up when its process ends, however it ends, so none is
// ever stale on its own host; another host's may be, where a file server keeps it. What is in the file says who holds it:
// for people, nothing rests on it. docs/LOCKING.md says which operation takes which.

import { closeSync, constants, fstatSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs';
import { type Clock, REAL_CLOCK } from '../base/clock.js';
import { BusyError } from '../base/errors.js';
import { flock } from '../base/syscalls.js';
import { formatGuest, type GuestRef } from './backup-id.js';
import { type StoreFs, storeFailure, systemCode } from './fs.js';
import { guestLockPath } from './layout.js';
import { encodeHolder, formatHolder, readHolder } from './lock-holder.js';

export type LockMode = 'shared' | 'exclusive';

/** A lock that is held until `release`, or until the process ends. */
export interface Lock {
  readonly path: string;
  readonly mode: LockMode;
  /** Whether the name is still this lock's file: false once somebody has taken it away, to break the lock. */
  isIntact(): boolean;
  /** May be called twice. */
  release(): Promise<void>;
}

/** Holds a bare descriptor: a FileHandle that is forgotten is closed by the garbage collector, and the lock with it. */
class FileLock implements Lock {
  readonly path: string;
  readonly mode: LockMode;
  #fd: number | undefined;
  #isSigned = false;

  constructor(path: string, mode: LockMode, fd: number) {
    this.path = path;
    this.mode = mode;
    this.#fd = fd;
  }

  /** Writes down who holds it. Past StoreFs, as it is no content of the datastore; where it fails, nobody knows. */
  sign(doing: string): void {
    if (this.#fd === undefined) return;
    this.#isSigned = true;
    try {
      ftruncateSync(this.#fd, 0);
      writeSync(this.#fd, encodeHolder(doing), 0);
    } catch {
      // Full, or read-only.
    }
  }

  /** What no seal covers is not left behind. */
  #unsign(fd: number): void {
    try {
      ftruncateSync(fd, 0);
    } catch {
      // Read-only by now.
    }
  }

  isIntact(): boolean {
    return this.#fd !== undefined && isAt(this.#fd, this.path);
  }

  async release(): Promise<void> {
    if (this.#fd === undefined) return;
    if (this.#isSigned) this.#unsign(this.#fd);
    closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/**
 * Takes the lock if nobody holds one that excludes it; undefined if somebody does. Makes the file, empty, if it is not
 * there. The lock is on the file that has the name once it is held, not on one that was removed meanwhile.
 */
export async function tryLock(fs: StoreFs, path: string, mode: LockMode, doing = ''): Promise<Lock | undefined> {
  for (;;) {
    const lock = lockOpened(await openOrCreate(fs, path), path, mode);
    if (lock === 'gone') continue;
    if (doing !== '') lock?.sign(doing);
    return lock;
  }
}

/** As tryLock, but a file that is not there is not made; undefined then too. */
export async function tryLockExisting(path: string, mode: LockMode): Promise<Lock | undefined> {
  const fd = mode === 'shared' ? openToLook(path) : openExisting(path);
  if (fd === undefined) return undefined;
  const lock = lockOpened(fd, path, mode);
  return lock === 'gone' ? undefined : lock;
}

/** Whether another holds the file exclusively now. Works on a file system that is read-only, too. */
export function isLocked(path: string): boolean {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      return !flock(fd, 'shared', { wait: false });
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw storeFailure(error, 'look at the lock', path);
  }
}

/** Takes over the descriptor. Undefined: another has the lock; 'gone': the name is no longer this file's. */
function lockOpened(fd: number, path: string, mode: LockMode): FileLock | undefined | 'gone' {
  try {
    const held = flock(fd, mode, { wait: false });
    if (held && isAt(fd, path)) return new FileLock(path, mode, fd);
    closeSync(fd);
    return held ? 'gone' : undefined;
  } catch (error) {
    closeSync(fd);
    throw storeFailure(error, 'lock', path);
  }
}

/** Whether the open file still is what the path names. */
function isAt(fd: number, path: string): boolean {
  const mine = fstatSync(fd);
  const named = statSync(path, { throwIfNoEntry: false });
  return named !== undefined && named.ino === mine.ino && named.dev === mine.dev;
}

function openExisting(path: string, access = constants.O_RDWR): number | undefined {
  try {
    // Not through a link: what it leads to would be emptied, and one that leads nowhere be made for ever.
    return openSync(path, access | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw storeFailure(error, 'open the lock', path);
  }
}

/** On a read-only mount, or for somebody who may only read. */
export const NOT_WRITABLE: ReadonlySet<string | undefined> = new Set(['EROFS', 'EACCES', 'EPERM']);

/** As openExisting; also where nothing can be written, since a shared lock needs no more than reading. */
function openToLook(path: string): number | undefined {
  try {
    return openExisting(path);
  } catch (error) {
    if (!NOT_WRITABLE.has(systemCode(error))) throw error;
    return openExisting(path, constants.O_RDONLY);
  }
}

async function openOrCreate(fs: StoreFs, path: string): Promise<number> {
  for (;;) {
    const fd = openExisting(path);
    if (fd !== undefined) return fd;
    try {
      await (await fs.createFile(path)).close();
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
  }
}

const POLL_MILLIS = 100;

export interface WaitOptions {
  /** How long to wait for the lock; 0 (the default) not at all, Infinity for ever. */
  readonly waitSeconds?: number;
  /** Written into the file, for who meets the lock: "backup". */
  readonly doing?: string;
  /** Ends the waiting with InterruptedError. */
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
}

/** Takes the lock, waiting for it as long as the options say; undefined if it was not to be had. */
export async function waitLock(
  fs: StoreFs,
  path: string,
  mode: LockMode,
  options: WaitOptions = {},
): Promise<Lock | undefined> {
  const clock = options.clock ?? REAL_CLOCK;
  const end = clock.monotonicMillis() + (options.waitSeconds ?? 0) * 1000;
  for (;;) {
    const lock = await tryLock(fs, path, mode, options.doing);
    if (lock !== undefined) return lock;
    const leftMillis = end - clock.monotonicMillis();
    if (leftMillis <= 0) return undefined;
    await clock.sleep(Math.min(POLL_MILLIS, leftMillis), options.signal);
  }
}

/**
 * The lock that whoever adds, removes or changes backups of a guest holds.
 * @throws BusyError if another holds it and goes on holding it while we wait.
 */
export async function lockGuest(fs: StoreFs, root: string, guest: GuestRef, options: WaitOptions = {}): Promise<Lock> {
  const path = guestLockPath(root, guest);
  const lock = await waitLock(fs, path, 'exclusive', { doing: 'work on a guest', ...options });
  if (lock !== undefined) return lock;
  const holder = readHolder(path);
  throw new BusyError('guest-busy', 'another vmar is working on the backups of this guest', {
    object: formatGuest(guest),
    ...(holder === undefined ? {} : { found: formatHolder(holder) }),
    advice: 'Run it again later, or with --wait.',
  });
}
