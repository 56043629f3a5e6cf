// SPDX-License-Identifier: MIT
// Remembers that a guest's latest backup was removed.
//
// A dirty bitmap begins with a backup and says what changed since. One whose name serves every night does not say with
// which: it is taken to follow the guest's latest backup. Were that removed, the one before it would be the latest, and
// what changed between the two would be lost from the next backup. So that one is marked first.

import { DamageError } from '../base/errors.js';
import { type BackupRef, formatBackupId, type GuestRef } from './backup-id.js';
import type { Datastore } from './datastore.js';
import { listManifestNames } from './manifest-tree.js';
import { readManifest } from './manifests.js';
import type { Session } from './session.js';
import { blankSidecar, readSidecar, writeSidecar } from './sidecars.js';

/**
 * To be called before backups of a guest are removed, under its lock: if the latest is among them, the one that is the
 * latest afterwards is marked, durably. One whose manifest or sidecar is damaged is no parent anyway.
 */
export async function markLaterRemoved(
  store: Datastore,
  session: Session,
  guest: GuestRef,
  going: readonly BackupRef[],
): Promise<void> {
  const names = new Set(going.map(formatBackupId));
  const { backups } = await listManifestNames(store.root, guest);
  const newestFirst = backups.sort((a, b) => b.timeSeconds - a.timeSeconds);
  const next = newestFirst.find((ref) => !names.has(formatBackupId(ref)));
  if (next === undefined || next === newestFirst[0]) return;
  try {
    const { manifest, digest } = await readManifest(store.root, next);
    if (manifest.disks.every(({ bitmapName }) => bitmapName === '')) return;
    const sidecar = (await readSidecar(store.root, next, digest)) ?? blankSidecar(digest);
    await writeSidecar(store, session, next, { ...sidecar, isLaterRemoved: true }, store.superblock.hash);
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
  }
}
