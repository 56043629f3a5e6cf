// SPDX-License-Identifier: MIT
// Restores with all the options, in process.

import { openArchive, openBackup } from '#vmar/src/archive/open-backup.js';
import { type RestoreSummary, restoreBackup } from '#vmar/src/archive/restore.js';
import type { World } from '../archive/world.js';

export interface RestoreWish {
  readonly backup: string;
  /** Disk → path. */
  readonly targets: Readonly<Record<string, string>>;
  readonly allowDamaged?: boolean;
  readonly overwrite?: boolean;
}

export async function restoreTo(world: World, wish: RestoreWish): Promise<RestoreSummary> {
  const store = await world.open();
  try {
    const backup = await openBackup(store, wish.backup);
    return await restoreOpen(world, backup, wish);
  } finally {
    await store.close();
  }
}

/** From an archive file. */
export async function restoreArchiveTo(
  world: World,
  path: string,
  wish: Omit<RestoreWish, 'backup'>,
): Promise<RestoreSummary> {
  return await restoreOpen(world, await openArchive(path), wish);
}

async function restoreOpen(
  world: World,
  backup: Awaited<ReturnType<typeof openBackup>>,
  { targets, allowDamaged = false, overwrite = false }: Omit<RestoreWish, 'backup'>,
): Promise<RestoreSummary> {
  const machine = world.machine();
  try {
    const assignments = Object.entries(targets).map(([disk, target]) => ({ disk, target }));
    const options = { executor: machine.executor, overwrite, targetIsZero: false, allowDamaged };
    return await restoreBackup(backup, assignments, options);
  } finally {
    await machine.close();
    await backup.close();
  }
}
