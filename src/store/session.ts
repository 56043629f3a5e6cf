// SPDX-License-Identifier: MIT
// A session is one command's presence in a datastore: a lock file that lives as long as its process, and a directory of
// its own in tmp/. It begins before the command writes or reads anything else, so that whoever removes things later (gc)
// sees who may still need them. What dead sessions left is removed by the next one that begins.

import { randomBytes } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BusyError, FailedError, NotFoundError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { makeDirectories, removeTree, unlessMissing } from './directory-tree.js';
import { type StoreFs, storeFailure, systemCode } from './fs.js';
import { parseSessionLock, sessionLockPath, sessionTmpPath } from './layout.js';
import { formatHolder, isOfThisHost, type LockHolder, readHolder } from './lock-holder.js';
import { type Lock, NOT_WRITABLE, tryLock, tryLockExisting } from './locks.js';

/** `read` needs to write nothing, and so works on a read-only datastore; the others do not. */
export type SessionKind = 'backup' | 'read' | 'maintenance';

/** What a session needs to know of its datastore. */
export interface SessionPlace {
  readonly root: string;
  readonly fs: StoreFs;
  readonly log: Log;
}

const NO_ROOM: ReadonlySet<string | undefined> = new Set(['ENOSPC', 'EDQUOT']);
const NO_LOCKS = ['ENOLCK', 'ENOTSUP', 'ENOSYS'];
/** Reading must work on a read-only datastore, on a full one, and where there are no locks. */
export const CANNOT_WRITE: ReadonlySet<string | undefined> = new Set([...NOT_WRITABLE, ...NO_ROOM, ...NO_LOCKS]);

export class Session {
  /** 32 hex digits, random. */
  readonly id: string;
  readonly kind: SessionKind;
  readonly #place: SessionPlace;
  #lock: Lock | undefined;
  #tmpDir: string | undefined;

  private constructor(place: SessionPlace, id: string, kind: SessionKind) {
    this.#place = place;
    this.id = id;
    this.kind = kind;
  }

  /** Begins a session, and removes what dead ones left. */
  static async begin(place: SessionPlace, kind: SessionKind): Promise<Session> {
    const session = new Session(place, randomBytes(16).toString('hex'), kind);
    try {
      await makingRoom(place, () => session.#settleIn(), session.id);
    } catch (error) {
      if (kind !== 'read' || !CANNOT_WRITE.has(systemCode(error))) {
        await session.end();
        throw error;
      }
      const without =
        session.#lock === undefined ? 'a lock, so a `vmar gc` elsewhere can interfere' : 'temporary files';
      const what = NO_LOCKS.includes(systemCode(error) ?? '') ? 'has no locks' : 'cannot be written to';
      place.log.warn(`${place.root} ${what}; reading without ${without}`);
    }
    if (session.#lock !== undefined) await sweepAll(place, session.id);
    return session;
  }

  /** Lock first, directory second: a directory without a lock is a dead session's. */
  async #settleIn(): Promise<void> {
    const { root, fs } = this.#place;
    for (const name of ['locks', 'tmp']) {
      // Copies of a datastore may lack directories that were empty.
      if (!existsSync(join(root, name))) await makeDirectories(fs, root, join(root, name));
    }
    this.#lock ??= await lockOwn(this.#place, this.id, this.kind);
    const tmpDir = sessionTmpPath(root, this.id);
    await fs.mkdir(tmpDir);
    this.#tmpDir = tmpDir;
  }

  /** A directory of the session's own, empty at first, that goes with it. A read session may have none. */
  get tmpDir(): string {
    if (this.#tmpDir !== undefined) return this.#tmpDir;
    throw new FailedError('read-only', 'the datastore cannot be written to, and this needs room for temporary files', {
      object: this.#place.root,
      advice: 'Mount it writable and run it again.',
    });
  }

  /** Whether others see it. A read session may be one of which nobody knows. */
  get isAnnounced(): boolean {
    return this.#lock !== undefined;
  }

  get hasTmpDir(): boolean {
    return this.#tmpDir !== undefined;
  }

  /** A path for a new temporary file. */
  temporaryPath(word: string): string {
    return join(this.tmpDir, `${word}-${randomBytes(8).toString('hex')}`);
  }

  /**
   * Before what rests on it is committed.
   * @throws FailedError 'session-abandoned' if somebody has declared it dead: gc may have deleted what it rests on
   */
  checkIntact(): void {
    if (this.#lock === undefined || this.#lock.isIntact()) return;
    throw new FailedError('session-abandoned', 'this command was declared dead while it ran', {
      object: this.#lock.path,
      advice: 'Run it again.',
    });
  }

  /**
   * Removes the session's directory and gives up its lock; may be called twice. Never rejects: what the session was for
   * is done or has failed by now, and what cannot be removed is left to the next session.
   */
  async end(): Promise<void> {
    const lock = this.#lock;
    if (lock === undefined) return;
    this.#lock = undefined;
    await sweep(this.#place, 'this session', async () => {
      try {
        if (this.#tmpDir !== undefined) await removeTree(this.#place.fs, this.#tmpDir);
        await unlessMissing(this.#place.fs.unlink(lock.path));
      } finally {
        await lock.release();
      }
    });
  }
}

/**
 * Does something; where there is no room for it, once more after removing what dead sessions left, which may be what
 * fills the disk.
 */
export async function makingRoom<T>(place: SessionPlace, action: () => Promise<T>, ownId = ''): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const hasRoom = NO_ROOM.has(systemCode(error)) && (await sweepAll(place, ownId));
    if (!hasRoom) throw error;
    return await action();
  }
}

/** Between the making of the file and its locking a sweep may have removed it: tryLock then makes it anew. */
async function lockOwn(place: SessionPlace, id: string, kind: SessionKind): Promise<Lock> {
  const path = sessionLockPath(place.root, id);
  for (;;) {
    const lock = await tryLock(place.fs, path, 'exclusive', kind).catch(async (error: unknown) => {
      // Where there are no locks, the file is there all the same.
      await place.fs.unlink(path).catch(() => undefined);
      throw error;
    });
    if (lock !== undefined) return lock;
    // A sweep holds the lock just now; it is about to remove the file.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The ids of sessions that have a lock file, dead ones too. */
async function listSessions(root: string): Promise<string[]> {
  const names = await listNames(join(root, 'locks'));
  return names.flatMap((name) => parseSessionLock(name) ?? []);
}

async function listNames(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    throw storeFailure(error, 'list the directory', path);
  }
}

/**
 * Removes what dead sessions left; what cannot be removed now is left to the next session. True if there was anything.
 * A session's lock file is made before its directory and removed after it: whoever holds the lock of another session, or
 * finds a directory without a lock file, finds it dead.
 */
async function sweepDeadSessions(place: SessionPlace, ownId: string): Promise<boolean> {
  const directories = (await listNames(join(place.root, 'tmp'))).filter((name) => isSessionId(name) && name !== ownId);
  const locked = new Set(await listSessions(place.root));
  let found = false;
  for (const id of locked) {
    if (id !== ownId && (await sweep(place, id, () => sweepLocked(place, id)))) found = true;
  }
  for (const id of directories) {
    if (locked.has(id)) continue;
    await sweep(place, id, () => removeTree(place.fs, sessionTmpPath(place.root, id)));
    found = true;
  }
  return found;
}

async function sweepAll(place: SessionPlace, ownId: string): Promise<boolean> {
  return (await sweep(place, 'dead sessions', () => sweepDeadSessions(place, ownId))) === true;
}

/** Housekeeping: its failure is no reason to fail. */
async function sweep<T>(place: SessionPlace, whose: string, action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    place.log.warn(`what is left of ${whose} in ${place.root} cannot be removed: ${String(error)}`);
    return undefined;
  }
}

/** False if the session lives. */
async function sweepLocked(place: SessionPlace, id: string): Promise<boolean> {
  const lock = await tryLockExisting(sessionLockPath(place.root, id), 'exclusive');
  if (lock === undefined) return false;
  try {
    const tmpDir = sessionTmpPath(place.root, id);
    await removeTree(place.fs, tmpDir);
    await unlessMissing(place.fs.unlink(lock.path));
    place.log.debug(`removed what the dead session ${id} left`);
    return true;
  } finally {
    await lock.release();
  }
}

function isSessionId(name: string): boolean {
  return parseSessionLock(`session-${name}.lock`) !== undefined;
}

/** A session that lives, as far as can be told. */
export interface LivingSession {
  readonly id: string;
  readonly holder: LockHolder | undefined;
  /** When it began, by the file system's clock; undefined if it has just ended. */
  readonly sinceMillis: number | undefined;
}

export function describeSession(root: string, id: string): LivingSession {
  const path = sessionLockPath(root, id);
  const sinceMillis = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  return { id, holder: readHolder(path), sinceMillis };
}

/**
 * Declares a session dead whose machine is gone, where a file server goes on holding its lock: nobody waits for it any
 * more, and what it had under way is removed. Should it live after all, it fails when it is about to commit.
 * @throws NotFoundError if there is none, BusyError if it is of this host, where only the living hold locks.
 */
export async function abandonSession(place: SessionPlace, id: string): Promise<LivingSession> {
  const path = sessionLockPath(place.root, id);
  const session = describeSession(place.root, id);
  if (!isSessionId(id) || session.sinceMillis === undefined) {
    throw new NotFoundError('no-such-session', 'there is no such session', { object: id });
  }
  if (await sweepLocked(place, id)) return session;
  if (session.holder === undefined || isOfThisHost(session.holder)) {
    throw new BusyError('session-alive', 'the session lives: its lock is held on this host', {
      object: id,
      ...(session.holder === undefined ? {} : { found: formatHolder(session.holder) }),
      advice: 'End that process. Only sessions of machines that are gone can be abandoned.',
    });
  }
  await removeTree(place.fs, sessionTmpPath(place.root, id));
  await unlessMissing(place.fs.unlink(path));
  return session;
}

/** The ids of the other sessions that live now: their lock is held. For whoever must wait until each has ended. */
export async function liveSessions(root: string, ownId: string): Promise<string[]> {
  const live: string[] = [];
  for (const id of await listSessions(root)) {
    if (id === ownId) continue;
    const lock = await tryLockExisting(sessionLockPath(root, id), 'shared');
    if (lock === undefined) live.push(id);
    else await lock.release();
  }
  return live;
}

/** When the longest-lived of the other sessions began, by the file system's clock; undefined if none lives. */
export async function oldestSessionMillis(root: string, ownId: string): Promise<number | undefined> {
  const begun = (await liveSessions(root, ownId)).flatMap((id) => {
    const file = statSync(sessionLockPath(root, id), { throwIfNoEntry: false });
    return file === undefined ? [] : [file.mtimeMs];
  });
  return begun.length === 0 ? undefined : begun.reduce((oldest, millis) => Math.min(oldest, millis));
}
