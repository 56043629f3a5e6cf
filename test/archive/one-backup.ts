// SPDX-License-Identifier: MIT
// One backup made and opened for a test, in a datastore or as an archive.

import { join } from 'node:path';
import { openArchiveVault } from '#vmar/src/archive/archive-vault.js';
import { type OpenBackup, openArchive, openBackup } from '#vmar/src/archive/open-backup.js';
import { describe, dumpInto, type MemoryDisk, World, type WorldOptions } from './world.js';

export interface OneBackupOptions extends WorldOptions {
  readonly kind: 'datastore' | 'archive';
}

let places = 0;

/** Backs the disks up below the directory, and opens the backup for the test. */
export async function withBackup(
  base: string,
  options: OneBackupOptions,
  disks: readonly MemoryDisk[],
  test: (backup: OpenBackup, world: World) => Promise<void>,
): Promise<void> {
  const world = await World.create(`${base}-${places++}`, options);
  if (options.kind === 'archive') {
    const backup = await openArchive(await makeArchive(world, disks));
    await test(backup, world).finally(() => backup.close());
    return;
  }
  await world.backup('100', disks, 1000);
  const store = await world.open();
  const backup = await openBackup(store, '100');
  await test(backup, world).finally(async () => {
    await backup.close();
    await store.close();
  });
}

/** The path of a new archive of the disks beside the world's datastore. */
export async function makeArchive(world: World, disks: readonly MemoryDisk[]): Promise<string> {
  const path = join(world.base, 'a.vmar');
  const { hash = 'blake3', clusterSizeBytes = 65536 } = world.options;
  const machine = world.machine();
  try {
    const options = { hash, clusterSizeBytes, scratchParent: world.base };
    const vault = await openArchiveVault({ kind: 'file', path, overwrite: false }, options);
    await dumpInto(vault, machine, describe('100', disks, 1000), disks);
  } finally {
    await machine.close();
  }
  return path;
}
