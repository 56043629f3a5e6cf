// SPDX-License-Identifier: MIT
// A directory for one socket, which nobody else may enter. It is locked while its maker lives; what a maker that was
// killed left behind is removed by the next.

import { closeSync, constants, fstatSync, mkdtempSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { flock } from '../../src/base/syscalls.js';

const PREFIX = 'vmar-qemu-';
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

  static make(parent: string): PrivateDirectory {
    const place = Buffer.byteLength(parent) + PREFIX.length + 7 > MOST_PATH_BYTES ? '/tmp' : parent;
    sweep(place);
    for (;;) {
      const path = mkdtempSync(join(place, PREFIX));
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

function sweep(parent: string): void {
  for (const name of readdirSync(parent).filter((each) => each.startsWith(PREFIX))) {
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
