// SPDX-License-Identifier: MIT
// The backups in a datastore that a command line names, for what only those in a datastore can be.

import { UsageError } from '../base/errors.js';
import { type BackupRef, formatBackupId, resolveBackup } from '../store/backup-id.js';
import { listManifestNames } from '../store/manifest-tree.js';
import { isArchiveName } from './parse-backup-name.js';

/**
 * Each once, in the order of the names.
 * @throws NotFoundError if there is no such backup, UsageError if more than one fits, or for an archive: `what` says
 * what only backups in a datastore can be.
 */
export async function findBackups(root: string, names: readonly string[], what: string): Promise<BackupRef[]> {
  const archive = names.find(isArchiveName);
  if (archive !== undefined) {
    throw new UsageError('not-in-datastore', `only backups in a datastore can be ${what}`, {
      object: archive,
      advice: 'An archive is a file, to be kept or removed as such.',
    });
  }
  const { backups } = await listManifestNames(root);
  const chosen = names.map((name) => resolveBackup(name, backups));
  return [...new Map(chosen.map((ref) => [formatBackupId(ref), ref])).values()];
}
