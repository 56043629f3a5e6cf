// SPDX-License-Identifier: MIT
// Listening on a socket in the file system: with the mode it is to have from its first moment, never beside another
// server, and in place of one that died.

import fs from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import type { Clock } from '../../base/clock.js';
import { BusyError, FailedError, systemErrorCode, UsageError } from '../../base/errors.js';
import { flock } from '../../base/syscalls.js';

const lstatAsync = promisify(fs.lstat);
const openAsync = promisify(fs.open);
const closeAsync = promisify(fs.close);
const unlinkAsync = promisify(fs.unlink);

/** sizeof sun_path, less the NUL. */
const LONGEST_PATH_BYTES = 107;
/** Another server that starts in the same directory needs a moment; one that hangs is not waited for. */
const LOCK_TRIES = 100;
const LOCK_PAUSE_MILLIS = 20;

/**
 * Listens at `path`. A socket that nobody listens on is removed first. Rejects with BusyError 'socket-in-use' when a
 * server answers there, and with FailedError 'socket-path-taken' when it is something else than a socket. Of several
 * servers that come at the same time one gets the path: they hold a lock of its directory while they look.
 */
export async function listenOnPath(server: Server, path: string, mode: number, clock: Clock): Promise<void> {
  if (Buffer.byteLength(path) > LONGEST_PATH_BYTES || path === '' || path.includes('\0')) {
    throw new UsageError('socket-path-too-long', 'this cannot be the path of a socket', {
      object: path,
      expected: `1 to ${LONGEST_PATH_BYTES} bytes`,
    });
  }
  await withDirectoryLock(path, clock, async () => {
    await clearPath(path);
    await bind(server, path, mode);
  });
}

async function withDirectoryLock(path: string, clock: Clock, action: () => Promise<void>): Promise<void> {
  const directory = dirname(path);
  let fd: number;
  try {
    fd = await openAsync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  } catch (error) {
    throw cannotListen(path, error);
  }
  try {
    for (let tries = 1; !tryLock(fd); tries++) {
      if (tries === LOCK_TRIES) {
        throw new BusyError('socket-in-use', 'another server is starting in this directory', { object: directory });
      }
      await clock.sleep(LOCK_PAUSE_MILLIS);
    }
    await action();
  } finally {
    await closeAsync(fd);
  }
}

/** True also where the file system has no locks: then two servers that start at one moment may both think that they won. */
function tryLock(fd: number): boolean {
  try {
    return flock(fd, 'exclusive', { wait: false });
  } catch {
    return true;
  }
}

/** Removes a socket that nobody listens on; throws for whatever else is there. */
async function clearPath(path: string): Promise<void> {
  let stat: fs.Stats;
  try {
    stat = await lstatAsync(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return;
    throw cannotListen(path, error);
  }
  if (!stat.isSocket()) {
    throw new FailedError('socket-path-taken', 'there is something else than a socket', {
      object: path,
      advice: 'Choose another path, or remove what is there.',
    });
  }
  if (!(await isStale(path))) {
    throw new BusyError('socket-in-use', 'a server listens on this socket', {
      object: path,
      advice: 'Choose another path, or stop that server.',
    });
  }
  await unlinkAsync(path);
}

/** Only a refused connection proves that nobody is there; anything else may be a server that is busy or not ours. */
function isStale(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error) => resolve(systemErrorCode(error) === 'ECONNREFUSED'));
  });
}

/** The file mode creation mask belongs to the whole process; binding happens inside the call, so it is narrow but for that. */
function bind(server: Server, path: string, mode: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => reject(cannotListen(path, error));
    server.once('error', failed);
    const mask = process.umask(0o777 & ~mode);
    try {
      server.listen({ path }, () => {
        server.off('error', failed);
        resolve();
      });
    } finally {
      process.umask(mask);
    }
  });
}

function cannotListen(path: string, error: unknown): FailedError {
  const reason = error instanceof Error ? error.message : String(error);
  return new FailedError('cannot-listen', `cannot listen on this socket: ${reason}`, { object: path, cause: error });
}
