// SPDX-License-Identifier: MIT
// A file system without holes in its files: exFAT.

import { spawnSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { afterAll } from 'vitest';

const MIB = 1 << 20;

/** Mounts it until the tests of the file are over; false, and says so loudly, where that cannot be. */
export function mountUnsparseDisk(path: string, sizeMib: number): boolean {
  mkdirSync(path, { recursive: true });
  const image = `${path}.exfat`;
  writeFileSync(image, '');
  truncateSync(image, sizeMib * MIB);
  const loop = mount(image, path);
  if (loop === undefined) return false;
  afterAll(() => {
    spawnSync('umount', [path]);
    spawnSync('losetup', ['-d', loop]);
  });
  return true;
}

/** The loop device. */
function mount(image: string, path: string): string | undefined {
  const made = spawnSync('mkfs.exfat', [image]);
  const { stdout, status } = spawnSync('losetup', ['-f', '--show', image], { encoding: 'utf8' });
  const loop = status === 0 ? stdout.trim() : undefined;
  if (made.status === 0 && loop !== undefined && spawnSync('mount.exfat-fuse', [loop, path]).status === 0) return loop;
  if (loop !== undefined) spawnSync('losetup', ['-d', loop]);
  console.warn('\n!!! exfat-fuse, exfatprogs or loop devices are missing: NOT TESTED: fleecing without sparse files\n');
  return undefined;
}
