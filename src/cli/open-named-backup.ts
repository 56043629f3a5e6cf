// SPDX-License-Identifier: MIT
// BACKUP arguments, opened: from the datastore or as archive files.

import { type OpenBackup, openArchive, openBackup } from '../archive/open-backup.js';
import type { Datastore } from '../store/datastore.js';
import type { Context } from './context.js';
import { openStore } from './open-store.js';
import { isArchiveName } from './parse-backup-name.js';

export type { OpenBackup } from '../archive/open-backup.js';

/** Opens the backups for the action and closes them, and the datastore if one was needed, after it. */
export async function withBackups<Result>(
  context: Context,
  names: readonly string[],
  action: (backups: readonly OpenBackup[]) => Promise<Result>,
): Promise<Result> {
  const backups: OpenBackup[] = [];
  let store: Datastore | undefined;
  try {
    for (const name of names) {
      if (isArchiveName(name)) backups.push(await openArchive(name));
      else {
        store ??= await openStore(context);
        backups.push(await openBackup(store, name));
      }
    }
    return await action(backups);
  } finally {
    for (const backup of backups) await backup.close();
    await store?.close();
  }
}
