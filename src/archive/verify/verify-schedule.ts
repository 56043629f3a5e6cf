// SPDX-License-Identifier: MIT
// A verify in portions: what was not read for longest comes first, and a budget of time ends it.

import { closeSync, constants, openSync } from 'node:fs';
import { type Clock, REAL_CLOCK } from '../../base/clock.js';
import { flock } from '../../base/syscalls.js';
import type { KnownDamage } from '../../store/damage-list.js';
import type { PackId } from '../../store/layout.js';
import type { StoredManifest } from '../../store/manifests.js';
import type { VerifyHistory } from '../../store/verify-history.js';

export interface VerifySchedule {
  /** What was verified longer ago than this is due; 0: all is. */
  readonly olderThanMillis: number;
  /** Nothing more is begun after so long; Infinity for no such bound. */
  readonly budgetMillis: number;
}

/** What such a verify has left for the next one. */
export interface ScheduleReport {
  readonly packsRead: number;
  readonly packsLeft: number;
  /** Bytes of these. */
  readonly bytesLeft: number;
  /** Backups whose maps are due to be followed. */
  readonly backupsLeft: number;
  /** Backups that rest on packs with damage, and were not asked whether it touches them. */
  readonly namesLeft: number;
  readonly isBudgetReached: boolean;
  /** When the pack that is left and was read longest ago was read; undefined where one never was, or none is left. */
  readonly oldestMillis: number | undefined;
}

/** Packs are read for this part of the budget before maps are followed, if any are due. */
export const PACKS_SHARE = 0.75;
/** Where there is damage, the rest of the budget is for asking whom it touches. */
export const FINDING_SHARE = 0.9;

export class Budget {
  readonly #clock: Clock;
  readonly #startMillis: number;
  readonly #millis: number;

  constructor(millis: number, clock: Clock = REAL_CLOCK) {
    this.#clock = clock;
    this.#startMillis = clock.monotonicMillis();
    this.#millis = millis;
  }

  isReached(share = 1): boolean {
    return this.#clock.monotonicMillis() - this.#startMillis >= this.#millis * share;
  }
}

/** Packs that are due, in the order in which they are to be read: those known as damaged, those never read, the oldest. */
export function duePacks(
  packs: readonly PackId[],
  { olderThanMillis }: VerifySchedule,
  history: VerifyHistory,
  known: KnownDamage,
  nowMillis: number,
): PackId[] {
  const rank = (packId: PackId): number => (known.packs.has(packId) ? -1 : (history.packReadMillis(packId) ?? 0));
  const due = packs.filter((packId) => rank(packId) <= Math.max(0, nowMillis - olderThanMillis));
  return due.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** Backups whose maps are due to be followed, in that order. */
export function dueBackups(
  entries: readonly StoredManifest[],
  { olderThanMillis }: VerifySchedule,
  history: VerifyHistory,
  nowMillis: number,
): StoredManifest[] {
  const rank = ({ digest }: StoredManifest): number => history.followedMillis(digest) ?? 0;
  return entries
    .filter((entry) => rank(entry) <= Math.max(0, nowMillis - olderThanMillis))
    .sort((a, b) => rank(a) - rank(b));
}

/**
 * Takes a pack for this verifier, so that several share the work: undefined while another one reads it. The kernel gives
 * it up with the process. Where the file system has no such locks, everybody has it.
 */
export function claimPack(path: string): (() => void) | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    // What is wrong with it the reading tells.
    return () => {};
  }
  let isMine = true;
  try {
    isMine = flock(fd, 'exclusive', { wait: false });
  } catch {
    // Not to be had here.
  }
  if (isMine) return () => closeSync(fd);
  closeSync(fd);
  return undefined;
}
