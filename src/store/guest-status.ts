// SPDX-License-Identifier: MIT
// How a guest stands: its last good backup, and how long ago that was.

import { DamageError, NotFoundError, VmarError } from '../base/errors.js';
import type { BackupHealth } from './backup-health.js';
import { type BackupRef, formatBackupId, formatGuest, type GuestRef } from './backup-id.js';
import { manifestPath } from './layout.js';
import { listManifestNames } from './manifest-tree.js';
import { type DamagedManifest, readManifest, type StoredManifest } from './manifests.js';
import { CLOCK_SLACK_SECONDS } from './prune-plan.js';

export interface GuestStatus {
  readonly guest: GuestRef;
  /** How many backups it has, of whatever state. */
  readonly backups: number;
  /**
   * The newest that is good, as far as is known, and whose time is not in the future; where all good ones are in the
   * future, the newest. Good: its manifest is sound, and nothing that it needs is known to be damaged.
   */
  readonly last: StoredManifest | undefined;
  /** Since `last`; undefined where there is none, or it is in the future and nobody can tell. */
  readonly ageSeconds: number | undefined;
  /** Backups newer than `last` that are damaged. Of older ones the manifests are not looked at. */
  readonly damaged: readonly DamagedManifest[];
  /** Backups older than `last` of which something that they need is known to be damaged. */
  readonly olderDamaged: readonly BackupRef[];
  /** How many backups have a time in the future, because a clock was or is wrong. */
  readonly inFuture: number;
}

type KnownHealth = Pick<BackupHealth, 'isDamaged'>;

/**
 * The status of guests, in their order; some may have no backup. Reads one manifest of each, unless that is damaged.
 * `health` tells what verify found.
 */
export async function readStatus(
  root: string,
  guests: readonly GuestRef[],
  nowSeconds: number,
  health: KnownHealth,
): Promise<GuestStatus[]> {
  const names = new Map<string, BackupRef[]>();
  for (const ref of (await listManifestNames(root)).backups) {
    const guest = formatGuest(ref);
    const ofGuest = names.get(guest);
    if (ofGuest === undefined) names.set(guest, [ref]);
    else ofGuest.push(ref);
  }
  const status: GuestStatus[] = [];
  for (const guest of guests) {
    status.push(await readGuest({ root, health, nowSeconds }, guest, names.get(formatGuest(guest)) ?? []));
  }
  return status;
}

interface Looking {
  readonly root: string;
  readonly health: KnownHealth;
  readonly nowSeconds: number;
}

/** `refs` are ordered by time. */
async function readGuest(looking: Looking, guest: GuestRef, refs: readonly BackupRef[]): Promise<GuestStatus> {
  const { health, nowSeconds } = looking;
  const newestFirst = [...refs].reverse();
  const inFuture = newestFirst.filter(({ timeSeconds }) => timeSeconds > nowSeconds + CLOCK_SLACK_SECONDS).length;
  const past = await firstGood(looking, newestFirst.slice(inFuture));
  const facts = { guest, backups: refs.length, inFuture };
  if (past.good !== undefined) {
    const lastSeconds = past.good.ref.timeSeconds;
    const olderDamaged = refs.filter((ref) => ref.timeSeconds < lastSeconds && health.isDamaged({ ref }));
    const ageSeconds = Math.max(0, nowSeconds - lastSeconds);
    return { ...facts, last: past.good, ageSeconds, damaged: past.damaged, olderDamaged };
  }
  const future = await firstGood(looking, newestFirst.slice(0, inFuture));
  const damaged = [...future.damaged, ...past.damaged];
  return { ...facts, last: future.good, ageSeconds: undefined, damaged, olderDamaged: [] };
}

/** The first that is good, and those before it that are not. */
async function firstGood(
  { root, health }: Looking,
  refs: readonly BackupRef[],
): Promise<{ good: StoredManifest | undefined; damaged: DamagedManifest[] }> {
  const damaged: DamagedManifest[] = [];
  for (const ref of refs) {
    try {
      const entry = await readManifest(root, ref);
      if (!health.isDamaged(entry)) return { good: entry, damaged };
      damaged.push({ ref, path: entry.path, error: spoilt(ref) });
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // Forgotten meanwhile.
      if (!(error instanceof NotFoundError)) damaged.push({ ref, path: manifestPath(root, ref), error });
    }
  }
  return { good: undefined, damaged };
}

function spoilt(ref: BackupRef): DamageError {
  return new DamageError('backup-damaged', 'something that the backup needs is damaged', {
    object: formatBackupId(ref),
    advice: '`vmar verify` tells what.',
  });
}
