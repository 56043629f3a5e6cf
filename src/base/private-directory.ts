// SPDX-License-Identifier: MIT
// A directory of one program, which nobody else may enter. It is locked while its maker lives; what a maker that was killed
// left behind is removed by the next.

import { closeSync, constants, fstatSync, mkdtempSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { flock } from './syscalls.js';

/** What a socket address of Linux holds, less the name of the socket. */
const MOST_PATH_BYTES = 90;

export class PrivateDirectory {
  readonly #fd: number;

  private constructor(
    readonly path: string,
    fd: number,
  ) {
    this.#fd = fd;
  }

  /** For sockets; where the parent's path is too long for them, in /tmp. The prefix is that of one use alone. */
  static makeShort(parent: string, prefix: string): PrivateDirectory {
    const isLong = Buffer.byteLength(parent) + prefix.length + 7 > MOST_PATH_BYTES;
    return PrivateDirectory.make(isLong ? '/tmp' : parent, prefix);
  }

  static make(parent: string, prefix: string): PrivateDirectory {
    sweep(parent, prefix);
    for (;;) {
      const path = mkdtempSync(join(parent, prefix));
      const fd = lockDirectory(path);
      if (fd !== undefined) return new PrivateDirectory(path, fd);
      // Someone swept it away before it was locked.
    }
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
    closeSync(this.#fd);
  }
}

/** Undefined if it is someone else's, or gone. */
function lockDirectory(path: string): number | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch {
    return undefined;
  }
  if (flock(fd, 'exclusive', { wait: false }) && isStill(path, fd)) return fd;
  closeSync(fd);
  return undefined;
}

function isStill(path: string, fd: number): boolean {
  const now = statSync(path, { throwIfNoEntry: false });
  return now !== undefined && now.ino === fstatSync(fd).ino;
}

function sweep(parent: string, prefix: string): void {
  for (const name of readdirSync(parent).filter((each) => each.startsWith(prefix))) {
    const path = join(parent, name);
    try {
      if (statSync(path).uid !== process.getuid?.()) continue;
      const fd = lockDirectory(path);
      if (fd === undefined) continue;
      rmSync(path, { recursive: true, force: true });
      closeSync(fd);
    } catch {
      // Another one sweeps it.
    }
  }
}
