// SPDX-License-Identifier: MIT
// A real file system with little room, for tests that fill it.

import { spawnSync } from 'node:child_process';
import { mkdirSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';

export type SmallDiskKind = 'tmpfs' | 'ext4';

const MIB = 1 << 20;

/**
 * Mounts a file system of so many MiB at `path`, until the tests of the file are over; false, and says so loudly, where
 * that is not allowed or a tool is missing.
 */
export function mountSmallDisk(kind: SmallDiskKind, path: string, sizeMib: number): boolean {
  mkdirSync(path, { recursive: true });
  const problem = kind === 'tmpfs' ? mountTmpfs(path, sizeMib) : mountExt4(path, sizeMib);
  if (problem !== undefined) {
    console.warn(`\n!!! NOT TESTED: a full ${kind} (${problem})\n`);
    return false;
  }
  afterAll(() => {
    run('umount', [path]);
  });
  return true;
}

function mountTmpfs(path: string, sizeMib: number): string | undefined {
  return run('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m,mode=0777`, 'tmpfs', path]);
}

function mountExt4(path: string, sizeMib: number): string | undefined {
  const image = `${path}.ext4`;
  writeFileSync(image, '');
  truncateSync(image, sizeMib * MIB);
  return run('mkfs.ext4', ['-q', '-m', '0', image]) ?? run('mount', ['-o', 'loop', image, path]);
}

/** What went wrong, if anything. */
function run(command: string, words: readonly string[]): string | undefined {
  const { error, status, stderr } = spawnSync(command, words, { encoding: 'utf8' });
  if (error !== undefined) return error.message;
  return status === 0 ? undefined : `${command}: ${stderr.trim()}`;
}

/** Takes all the room that is left; the file's path. */
export function fillDisk(path: string): string {
  const filler = join(path, 'filler');
  const { bavail, bsize } = statfsSync(path);
  // More than there is: what fits is written.
  spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=64k', `count=${Math.ceil((bavail * bsize) / 65536) + 16}`]);
  spawnSync('dd', ['if=/dev/zero', `of=${filler}-2`, 'bs=1', 'count=65536']);
  return filler;
}
