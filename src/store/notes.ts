// SPDX-License-Identifier: MIT
// The notes of a backup.

import type { BackupRef } from './backup-id.js';
import { withGuestLocks } from './change-backups.js';
import type { Datastore } from './datastore.js';
import { readManifest } from './manifests.js';
import { blankSidecar, readSidecar, writeSidecar } from './sidecars.js';

/**
 * Gives a backup other notes; labels and protection stay. Durable when it resolves.
 * @throws NotFoundError, DamageError if manifest or sidecar are damaged, BusyError while another works on the guest.
 */
export async function setNotes(store: Datastore, backup: BackupRef, notes: string): Promise<void> {
  await withGuestLocks(store, [backup], async (session) => {
    const { digest } = await readManifest(store.root, backup);
    const sidecar = { ...((await readSidecar(store.root, backup, digest)) ?? blankSidecar(digest)), notes };
    await writeSidecar(store, session, backup, sidecar, store.superblock.hash);
  });
}
