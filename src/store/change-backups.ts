// SPDX-License-Identifier: MIT
// Changes to backups of several guests at once, under the locks of all of them.

import { type BackupRef, compareGuests, formatGuest } from './backup-id.js';
import type { Datastore } from './datastore.js';
import { type Lock, lockGuest } from './locks.js';
import { readManifest } from './manifests.js';
import type { Session } from './session.js';
import { blankSidecar, readSidecar, writeSidecar } from './sidecars.js';

/**
 * Does something to the backups in a session, holding their guests' locks.
 * @throws BusyError if another holds one of them; the action was not begun then.
 */
export async function withGuestLocks<Result>(
  store: Datastore,
  backups: readonly BackupRef[],
  action: (session: Session) => Promise<Result>,
): Promise<Result> {
  const session = await store.beginSession('maintenance');
  const locks: Lock[] = [];
  try {
    const guests = new Map(backups.map((ref) => [formatGuest(ref), ref]));
    // In one order everywhere, so that two who want the same guests cannot wait for each other.
    for (const guest of [...guests.values()].sort(compareGuests)) {
      locks.push(await lockGuest(store.fs, store.root, guest));
    }
    return await action(session);
  } finally {
    for (const lock of locks) await lock.release();
    await session.end();
  }
}

/**
 * Protects the backups from being removed, or takes that away; labels and notes stay. Gives those that were not so
 * before; each is durably so when it resolves. If a manifest or sidecar is damaged, nothing is changed.
 * @throws BusyError, NotFoundError, DamageError
 */
export async function setProtection(
  store: Datastore,
  backups: readonly BackupRef[],
  isProtected: boolean,
): Promise<BackupRef[]> {
  return await withGuestLocks(store, backups, async (session) => {
    const wanted = [];
    for (const ref of backups) {
      const { digest } = await readManifest(store.root, ref);
      const sidecar = (await readSidecar(store.root, ref, digest)) ?? blankSidecar(digest);
      if (sidecar.isProtected !== isProtected) wanted.push({ ref, sidecar: { ...sidecar, isProtected } });
    }
    for (const { ref, sidecar } of wanted) await writeSidecar(store, session, ref, sidecar, store.superblock.hash);
    return wanted.map(({ ref }) => ref);
  });
}
