// SPDX-License-Identifier: MIT
// BACKUP arguments, opened: from the datastore or as archive files.

import { type BackupFacts, lookAtBackup, type OpenBackup, openArchive, openBackup } from '../archive/open-backup.js';
import type { Datastore } from '../store/datastore.js';
import type { Context } from './context.js';
import { openStore, withStore } from './open-store.js';
import { isArchiveName } from './parse-backup-name.js';

export type { BackupFacts, OpenBackup } from '../archive/open-backup.js';

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

/** What can be told of a backup at once, without the chunk index. */
export async function lookAtNamed(context: Context, name: string): Promise<BackupFacts> {
  if (!isArchiveName(name)) return await withStore(context, async (store) => await lookAtBackup(store, name));
  const archive = await openArchive(name);
  await archive.close();
  return archive;
}

/** A backup and the datastore that it lies in; `close` may be called twice. */
export interface NamedBackup {
  readonly backup: OpenBackup;
  close(): Promise<void>;
}

/** Opens one backup, for those that give it up before they end. */
export async function openNamedBackup(context: Context, name: string): Promise<NamedBackup> {
  const store = isArchiveName(name) ? undefined : await openStore(context);
  try {
    const backup = store === undefined ? await openArchive(name) : await openBackup(store, name);
    let closing: Promise<void> | undefined;
    const close = async (): Promise<void> => {
      await backup.close();
      await store?.close();
    };
    return {
      backup,
      close() {
        closing ??= close();
        return closing;
      },
    };
  } catch (error) {
    await store?.close();
    throw error;
  }
}
