// SPDX-License-Identifier: MIT
// Which backups are to be copied, and which are at the other side already.

import { diskBytes } from '../../../formats/vmar/manifest.js';
import { FailedError, VmarError } from '../../base/errors.js';
import { type BackupRef, compareBackups, formatBackupId, type GuestRef, sameGuest } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import { listManifestNames } from '../../store/manifest-tree.js';
import { readManifest, type StoredManifest } from '../../store/manifests.js';
import { backupIdentity, isSameBackup } from '../identity.js';

/** `there`: it is at the destination. `failed`: it cannot be copied, and why. */
export type PlannedCopy =
  | { readonly ref: BackupRef; readonly state: 'lacking'; readonly totalBytes: number }
  | { readonly ref: BackupRef; readonly state: 'there'; readonly found: StoredManifest }
  | { readonly ref: BackupRef; readonly state: 'failed'; readonly error: VmarError };

/** Of all guests, or of those named. */
export async function backupsOf(source: Datastore, guests: readonly GuestRef[] | 'all'): Promise<BackupRef[]> {
  const { backups } = await listManifestNames(source.root);
  return guests === 'all' ? backups : backups.filter((ref) => guests.some((guest) => sameGuest(guest, ref)));
}

/** In the order in which they are to be copied: of each guest the oldest first, as its chain of backups grows. */
export async function planCopies(
  source: Datastore,
  destination: Datastore,
  refs: readonly BackupRef[],
): Promise<PlannedCopy[]> {
  const unique = [...new Map(refs.map((ref) => [formatBackupId(ref), ref])).values()];
  const { backups: there } = await listManifestNames(destination.root);
  const names = new Set(there.map(formatBackupId));
  const plan: PlannedCopy[] = [];
  for (const ref of unique.sort(compareBackups)) {
    plan.push(await planOne(source, destination, ref, names.has(formatBackupId(ref))));
  }
  return plan;
}

async function planOne(
  source: Datastore,
  destination: Datastore,
  ref: BackupRef,
  isTaken: boolean,
): Promise<PlannedCopy> {
  try {
    const wanted = await readManifest(source.root, ref);
    const totalBytes = diskBytes(wanted.manifest);
    if (!isTaken) return { ref, state: 'lacking', totalBytes };
    const found = await readManifest(destination.root, ref);
    if (isSameBackup(found.manifest, backupIdentity(wanted.manifest))) return { ref, state: 'there', found };
    return { ref, state: 'failed', error: otherBackup(destination, ref) };
  } catch (error) {
    if (error instanceof VmarError) return { ref, state: 'failed', error };
    throw error;
  }
}

/** Never replaced: two clocks, or two guests of one name. */
export function otherBackup({ root }: Datastore, ref: BackupRef): FailedError {
  return new FailedError('other-backup', 'the destination has another backup of that guest and second', {
    object: formatBackupId(ref),
    found: root,
    advice: 'Nothing was changed. Two guests may share one id: keep them in namespaces of their own.',
  });
}
