// SPDX-License-Identifier: MIT
// State files in a directory. The lock is an flock on the file itself, so it ends with the process, however that ends.

import fs from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { promisify } from 'node:util';
import { BusyError, FailedError, systemErrorCode, VmarError } from '../base/errors.js';
import { flock } from '../base/syscalls.js';
import type { StateFile, StatePlace } from './state-file.js';

const SUFFIX = '.vmar-live';
/** Where the state of restores to block devices lies: it survives a reboot, and is nobody's home. */
const DEVICE_DIRECTORY = '/var/lib/vmar/restore';

/** Beside a file; for a device a name of its own in /var/lib/vmar/restore. */
export function defaultStatePath(target: string, kind: 'file' | 'device'): string {
  const path = resolve(target);
  if (kind === 'file') return path + SUFFIX;
  // One file a path, whatever is in it: "/dev/vg/a-b" and "/dev/vg-a/b" are two.
  const name = path.slice(1).replace(/[^A-Za-z0-9.+-]/g, (letter) => (letter === '/' ? '_' : escaped(letter)));
  return `${DEVICE_DIRECTORY}/${name}${SUFFIX}`;
}

/** Where a state file is made, before it gets its name. */
export function newStatePath(path: string): string {
  return `${path}.new`;
}

function escaped(letter: string): string {
  return [...Buffer.from(letter)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
}

const writeAsync = promisify(fs.write);
const readAsync = promisify(fs.read);
const truncateAsync = promisify(fs.ftruncate);
const syncAsync = promisify(fs.fdatasync);
const closeAsync = promisify(fs.close);
const openAsync = promisify(fs.open);

/** A file by its bare descriptor: a FileHandle that is forgotten is closed by the garbage collector, its lock with it. */
class LockedFile implements StateFile {
  #fd: number;

  constructor(
    fd: number,
    readonly path: string,
  ) {
    this.#fd = fd;
  }

  async sizeBytes(): Promise<number> {
    return fs.fstatSync(this.#fd).size;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<number> {
    let done = 0;
    while (done < into.byteLength) {
      const { bytesRead } = await readAsync(this.#fd, into, done, into.byteLength - done, offsetBytes + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    for (let done = 0; done < from.byteLength; ) {
      const { bytesWritten } = await writeAsync(this.#fd, from, done, from.byteLength - done, offsetBytes + done);
      done += bytesWritten;
    }
  }

  truncate(lengthBytes: number): Promise<void> {
    return truncateAsync(this.#fd, lengthBytes);
  }

  sync(): Promise<void> {
    return syncAsync(this.#fd);
  }

  async close(): Promise<void> {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd >= 0) await closeAsync(fd);
  }
}

/** A path for a state file. The directory of a device's state is made when it is missing, for root alone. */
export class StatePath implements StatePlace {
  readonly path: string;
  readonly #newPath: string;

  constructor(path: string) {
    this.path = resolve(path);
    this.#newPath = newStatePath(this.path);
  }

  async open(): Promise<StateFile | undefined> {
    for (;;) {
      const file = await lockedFile(this.path, this.path, fs.constants.O_RDWR);
      if (file !== 'gone') return file;
    }
  }

  async create(): Promise<StateFile> {
    if (dirname(this.path) === DEVICE_DIRECTORY) {
      await failing(this.path, () => mkdir(DEVICE_DIRECTORY, { recursive: true, mode: 0o700 }));
    }
    const { O_RDWR, O_CREAT } = fs.constants;
    for (;;) {
      const file = await lockedFile(this.#newPath, this.path, O_RDWR | O_CREAT);
      if (file === 'gone' || file === undefined) continue;
      // What a process that was killed here has left.
      await file.truncate(0);
      return file;
    }
  }

  publish(): Promise<void> {
    return failing(this.path, () => rename(this.#newPath, this.path));
  }

  syncName(): Promise<void> {
    return failing(this.path, async () => {
      const directory = await open(dirname(this.path), 'r');
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    });
  }

  async discard(): Promise<void> {
    await rm(this.#newPath, { force: true });
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }
}

/** Undefined: there is none; 'gone': it lost its name before it was locked. */
async function lockedFile(path: string, statePath: string, flags: number): Promise<LockedFile | undefined | 'gone'> {
  const { O_NOFOLLOW, O_CREAT } = fs.constants;
  let fd: number;
  try {
    fd = await openAsync(path, flags | O_NOFOLLOW, 0o600);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' && (flags & O_CREAT) === 0) return undefined;
    throw stateFailure(statePath, error);
  }
  try {
    if (!fs.fstatSync(fd).isFile()) throw notAFile(statePath);
    if (!flock(fd, 'exclusive', { wait: false })) throw inUse(statePath);
    if (!isAt(fd, path)) {
      await closeAsync(fd);
      return 'gone';
    }
    return new LockedFile(fd, path);
  } catch (error) {
    await closeAsync(fd).catch(() => undefined);
    throw error instanceof VmarError ? error : stateFailure(statePath, error);
  }
}

function isAt(fd: number, path: string): boolean {
  const mine = fs.fstatSync(fd);
  const named = fs.lstatSync(path, { throwIfNoEntry: false });
  return named !== undefined && named.ino === mine.ino && named.dev === mine.dev;
}

async function failing(path: string, action: () => Promise<unknown>): Promise<void> {
  try {
    await action();
  } catch (error) {
    throw stateFailure(path, error);
  }
}

function inUse(path: string): BusyError {
  return new BusyError('state-in-use', 'another process restores with this state file', {
    object: path,
    advice: `Connect to its socket, or end it first; ${basename(path)} stays.`,
  });
}

function notAFile(path: string): FailedError {
  return new FailedError('not-a-state-file', 'the file is no state of a live restore', {
    object: path,
    advice: 'Name another file with --state.',
  });
}

/** The state file cannot be written or read; the message says why. */
export function stateFailure(path: string, error: unknown): VmarError {
  if (error instanceof VmarError) return error;
  const why = error instanceof Error ? error.message : String(error);
  const code = systemErrorCode(error) ?? '';
  const isFull = ['ENOSPC', 'EDQUOT'].includes(code);
  return new FailedError('state-failed', `the state of the live restore cannot be kept: ${why}`, {
    object: path,
    advice: isFull
      ? 'Make room there: until then what is new to the target cannot be written.'
      : code === 'ENOENT'
        ? 'Make its directory first, or name another place with --state FILE.'
        : 'Name another place with --state FILE.',
    cause: error,
  });
}
