// SPDX-License-Identifier: MIT
// The directory of one run: the fleecing files, the socket of the export, and a lock that says that the run lives.

import { chown, type FileHandle, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { REAL_CLOCK } from '../../src/base/clock.js';
import { FailedError, systemErrorCode, UsageError } from '../../src/base/errors.js';
import { flock } from '../../src/base/syscalls.js';
import { isRunDirectory } from './names.js';

const LOCK = 'lock';
const TURN_MILLIS = 10;
const PROBE_BYTES = 1 << 20;
/** What a socket's address holds. */
const MOST_SOCKET_PATH_BYTES = 107;

/** Whose QEMU it is: it must be able to open our files when we are root and it is not. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export class RunDirectory {
  readonly path: string;
  readonly #lock: FileHandle;
  readonly #owner: Owner | undefined;
  readonly #fleeces: FileHandle[] = [];

  private constructor(path: string, lock: FileHandle, owner: Owner | undefined) {
    this.path = path;
    this.#lock = lock;
    this.#owner = owner;
  }

  /** Makes it, for nobody else to look into, and takes the lock. */
  static async make(base: string, name: string, owner: Owner | undefined): Promise<RunDirectory> {
    const path = join(base, name);
    if (Buffer.byteLength(join(path, 'nbd')) > MOST_SOCKET_PATH_BYTES) {
      throw new UsageError(
        'fleece-path-too-long',
        'the path of the fleecing directory is too long for a socket in it',
        {
          object: base,
          expected: `at most ${MOST_SOCKET_PATH_BYTES} bytes with ${name}/nbd`,
        },
      );
    }
    try {
      const lock = await alone(base, async () => {
        await removeOrphans(base);
        await mkdir(path, { mode: 0o700 });
        const file = await open(join(path, LOCK), 'wx', 0o600);
        flock(file.fd, 'exclusive', { wait: false });
        return file;
      });
      const made = new RunDirectory(path, lock, owner);
      await made.#give(path);
      await made.#give(join(path, LOCK));
      return made;
    } catch (error) {
      throw unusable(base, error);
    }
  }

  get lockPath(): string {
    return join(this.path, LOCK);
  }

  get socketPath(): string {
    return join(this.path, 'nbd');
  }

  /** A sparse file of that length. Its descriptor lasts as long as this does. */
  async makeFleece(disk: number, lengthBytes: number): Promise<{ readonly path: string; readonly fd: number }> {
    const path = join(this.path, `fleece${disk}`);
    try {
      const file = await open(path, 'wx', 0o600);
      this.#fleeces.push(file);
      // A little first: where there are no holes, the whole would be written full of zeros, for minutes.
      await file.truncate(Math.min(lengthBytes, PROBE_BYTES));
      if ((await file.stat()).blocks * 512 > PROBE_BYTES / 2) throw notSparse(this.path);
      await file.truncate(lengthBytes);
      await this.#give(path);
      return { path, fd: file.fd };
    } catch (error) {
      throw unusable(this.path, error);
    }
  }

  async #give(path: string): Promise<void> {
    if (this.#owner !== undefined) await chown(path, this.#owner.uid, this.#owner.gid);
  }

  /** The files go, the lock last. */
  async remove(): Promise<void> {
    for (const file of this.#fleeces.splice(0)) await file.close();
    // NFS and FUSE keep a file that is open under another name: the directory goes when the lock is closed.
    await removeFiles(this.path).catch(() => {});
    await this.#lock.close();
    await removeFiles(this.path);
  }
}

/** The owner of the monitor's socket, if files must be handed to it. */
export async function ownerOf(socketPath: string, uid: number | undefined): Promise<Owner | undefined> {
  if (uid !== 0) return undefined;
  const owner = await stat(socketPath).catch(() => undefined);
  return owner === undefined || owner.uid === 0 ? undefined : { uid: owner.uid, gid: owner.gid };
}

/** Whether the run that made the directory of this lock lives. */
export async function isAlive(lockPath: string): Promise<boolean> {
  try {
    const lock = await open(lockPath, 'r');
    try {
      return !flock(lock.fd, 'exclusive', { wait: false });
    } finally {
      await lock.close();
    }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Removes what a run that died left. Does nothing to a path that no run can have made. */
export async function removeDead(lockPath: string): Promise<void> {
  const path = dirname(lockPath);
  if (isAbsolute(path) && basename(lockPath) === LOCK && isRunDirectory(basename(path))) await removeFiles(path);
}

/** One run at a time; a directory without a lock held is then one whose run died. */
async function alone<T>(base: string, work: () => Promise<T>): Promise<T> {
  const directory = await open(base, 'r');
  try {
    while (!flock(directory.fd, 'exclusive', { wait: false })) await REAL_CLOCK.sleep(TURN_MILLIS);
    return await work();
  } finally {
    await directory.close();
  }
}

/** What runs left that died before the guest knew of them, or whose guest has gone. */
async function removeOrphans(base: string): Promise<void> {
  for (const name of (await readdir(base)).filter(isRunDirectory)) {
    const path = join(base, name);
    // One that we may not look into is another user's.
    const alive = await isAlive(join(path, LOCK)).catch(() => true);
    if (!alive) await removeFiles(path);
  }
}

async function removeFiles(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

function unusable(directory: string, error: unknown): unknown {
  const code = systemErrorCode(error);
  if (code === undefined || error instanceof FailedError) return error;
  const why: Readonly<Record<string, string>> = {
    ENOENT: 'it does not exist',
    ENOTDIR: 'it is no directory',
    EACCES: 'it may not be written to',
    EROFS: 'it may not be written to',
    ENOSPC: 'it is full',
    EFBIG: 'its file system does not take files as large as the disk',
  };
  const message = why[code] ?? (error instanceof Error ? error.message : code);
  return new FailedError('fleece-unusable', `the fleecing directory cannot be used: ${message}`, {
    object: directory,
    advice: 'Give another one with --fleece DIR, on a file system with sparse files.',
    cause: error,
  });
}

function notSparse(directory: string): FailedError {
  return new FailedError('fleece-not-sparse', 'the fleecing directory is on a file system without sparse files', {
    object: directory,
    advice: 'Give another one with --fleece DIR.',
  });
}
