// SPDX-License-Identifier: MIT
// Which backups can be had, found out by restoring them.

import { mkdirSync, rmSync } from 'node:fs';
import { VmarError } from '#vmar/src/base/errors.js';
import type { World } from '../archive/world.js';
import type { TinyBackup } from './tiny-store.js';

/** The next command starts without an index. */
export function dropIndex(world: World): void {
  rmSync(world.cacheDir, { recursive: true, force: true });
  mkdirSync(world.cacheDir, { recursive: true });
}

/**
 * Restores every disk of every backup.
 * @returns the `BACKUP:DISK` that end with exit status 3 or are not there any more.
 * @throws Error if one comes back wrong, or fails in any other way: what damage must never do.
 */
export async function lostDisks(world: World, backups: readonly TinyBackup[]): Promise<Set<string>> {
  const lost = new Set<string>();
  for (const { name, disks } of backups) {
    for (const disk of disks) {
      const restored = await restoreOrStatus(world, name, disk.name);
      if (restored === 3 || restored === 4) lost.add(`${name}:${disk.name}`);
      else if (typeof restored === 'number') throw new Error(`${name}:${disk.name} ended with exit status ${restored}`);
      else if (!restored.equals(disk.content)) throw new Error(`${name}:${disk.name} came back wrong`);
    }
  }
  return lost;
}

/** The content, or the exit status that the restore ends with. */
export async function restoreOrStatus(world: World, backup: string, disk: string): Promise<Buffer | number> {
  try {
    return (await world.restore(backup, disk)).content;
  } catch (error) {
    if (error instanceof VmarError) return error.exitStatus;
    throw error;
  }
}

export function backupsOf(disks: Iterable<string>): Set<string> {
  return new Set([...disks].map((disk) => disk.slice(0, disk.lastIndexOf(':'))));
}
