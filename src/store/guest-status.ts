// SPDX-License-Identifier: MIT
// How a guest stands: its last good backup, and how long ago that was.

import { NotFoundError, VmarError } from '../base/errors.js';
import { type BackupRef, formatGuest, type GuestRef } from './backup-id.js';
import { manifestPath } from './layout.js';
import { listManifestNames } from './manifest-tree.js';
import { type DamagedManifest, readManifest, type StoredManifest } from './manifests.js';
import { CLOCK_SLACK_SECONDS } from './prune-plan.js';

export interface GuestStatus {
  readonly guest: GuestRef;
  /** How many backups it has, of whatever state. */
  readonly backups: number;
  /** The newest whose manifest is sound and whose time is not in the future; where all are in the future, the newest. */
  readonly last: StoredManifest | undefined;
  /** Since `last`; undefined where there is none, or it is in the future and nobody can tell. */
  readonly ageSeconds: number | undefined;
  /** Backups newer than `last` whose manifests cannot be read; older ones are not looked at. */
  readonly damaged: readonly DamagedManifest[];
  /** How many backups have a time in the future, because a clock was or is wrong. */
  readonly inFuture: number;
}

/** The status of guests, in their order. Reads one manifest of each, unless that is damaged. */
export async function readStatus(
  root: string,
  guests: readonly GuestRef[],
  nowSeconds: number,
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
    status.push(await readGuest(root, guest, names.get(formatGuest(guest)) ?? [], nowSeconds));
  }
  return status;
}

/** `refs` are ordered by time. */
async function readGuest(
  root: string,
  guest: GuestRef,
  refs: readonly BackupRef[],
  nowSeconds: number,
): Promise<GuestStatus> {
  const newestFirst = [...refs].reverse();
  const inFuture = newestFirst.filter(({ timeSeconds }) => timeSeconds > nowSeconds + CLOCK_SLACK_SECONDS).length;
  const past = await firstSound(root, newestFirst.slice(inFuture));
  const facts = { guest, backups: refs.length, inFuture };
  if (past.sound !== undefined) {
    const ageSeconds = Math.max(0, nowSeconds - past.sound.ref.timeSeconds);
    return { ...facts, last: past.sound, ageSeconds, damaged: past.damaged };
  }
  const future = await firstSound(root, newestFirst.slice(0, inFuture));
  const damaged = [...future.damaged, ...past.damaged];
  return { ...facts, last: future.sound, ageSeconds: undefined, damaged };
}

/** The first that can be read, and those before it that cannot. */
async function firstSound(
  root: string,
  refs: readonly BackupRef[],
): Promise<{ sound: StoredManifest | undefined; damaged: DamagedManifest[] }> {
  const damaged: DamagedManifest[] = [];
  for (const ref of refs) {
    try {
      return { sound: await readManifest(root, ref), damaged };
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // Forgotten meanwhile.
      if (!(error instanceof NotFoundError)) damaged.push({ ref, path: manifestPath(root, ref), error });
    }
  }
  return { sound: undefined, damaged };
}
