// SPDX-License-Identifier: MIT
// Prunes a guest: reads its backups, plans, and removes those that go. docs/LOCKING.md has its row.

import { formatGuest, type GuestRef } from './backup-id.js';
import { listBackups } from './backup-list.js';
import type { Datastore } from './datastore.js';
import { markLaterRemoved } from './later-removed.js';
import { lockGuest, type WaitOptions } from './locks.js';
import { type DamagedManifest, forgetManifests } from './manifests.js';
import { type Keep, type PlannedBackup, type PlanOptions, type PruneCandidate, planPrune } from './prune-plan.js';

export interface GuestPlan {
  readonly guest: GuestRef;
  /** All backups of the guest, by time. */
  readonly backups: readonly PlannedBackup[];
  /** Those of them whose manifest or sidecar cannot be read: they stay. */
  readonly damaged: readonly DamagedManifest[];
}

/** What `pruneGuest` would do now. Changes nothing and takes no lock. */
export async function planGuest(root: string, guest: GuestRef, keep: Keep, options: PlanOptions): Promise<GuestPlan> {
  const { backups, damaged } = await listBackups(root, guest);
  const candidates: PruneCandidate[] = [
    ...backups.map(({ ref, isProtected }) => ({
      ref,
      state: isProtected ? ('protected' as const) : ('sound' as const),
    })),
    ...damaged.map(({ ref }) => ({ ref, state: 'damaged' as const })),
  ];
  return { guest, backups: planPrune(candidates, keep, options), damaged };
}

/**
 * Removes the guest's backups that the plan lets go, under the guest's lock: once it resolves, they are durably gone.
 * A crash in between leaves some of them, which the next prune removes; it never keeps fewer than one that was not
 * interrupted.
 * @throws BusyError if another works on the guest's backups.
 */
export async function pruneGuest(
  store: Datastore,
  guest: GuestRef,
  keep: Keep,
  options: PlanOptions & WaitOptions,
): Promise<GuestPlan> {
  const lock = await lockGuest(store.fs, store.root, guest, options);
  try {
    const plan = await planGuest(store.root, guest, keep, options);
    const going = plan.backups.filter(({ decision }) => !decision.keep).map(({ ref }) => ref);
    store.log.debug(`${going.length} of ${plan.backups.length} backups of ${formatGuest(guest)} go`);
    if (going.length === 0) return plan;
    const session = await store.beginSession('maintenance');
    try {
      await markLaterRemoved(store, session, guest, going);
      await forgetManifests(store.fs, store.root, guest, going);
    } finally {
      await session.end();
    }
    return plan;
  } finally {
    await lock.release();
  }
}
