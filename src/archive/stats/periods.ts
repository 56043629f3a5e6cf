// SPDX-License-Identifier: MIT
// How a datastore grew: its backups by day, week, month or year of the host's time zone.

import { localPeriodOf } from '../../store/prune-periods.js';
import type { BackupStats } from './stats.js';

export const PERIODS = { day: 'daily', week: 'weekly', month: 'monthly', year: 'yearly' } as const;
export type PeriodLength = keyof typeof PERIODS;

export interface PeriodStats {
  /** `2026-11-21`, `2026-W47`, `2026-11` or `2026`. */
  readonly period: string;
  /** Of its last backup. */
  readonly lastSeconds: number;
  readonly backups: number;
  readonly logicalBytes: number;
  /** What its backups have and no earlier one, before and after compression. */
  readonly newBytes: number;
  readonly newStoredBytes: number;
  /** Sums from the first period to the end of this one. */
  readonly untilThen: {
    readonly backups: number;
    readonly logicalBytes: number;
    readonly uniqueBytes: number;
    readonly storedBytes: number;
  };
}

/** Periods that have backups, in the order of time. `backups` are ordered by time. */
export function byPeriod(backups: readonly BackupStats[], length: PeriodLength): PeriodStats[] {
  const names = new Map<string, BackupStats[]>();
  for (const backup of backups) {
    const name = localPeriodOf(PERIODS[length], backup.ref.timeSeconds);
    const ofPeriod = names.get(name);
    if (ofPeriod === undefined) names.set(name, [backup]);
    else ofPeriod.push(backup);
  }
  const until = { backups: 0, logicalBytes: 0, uniqueBytes: 0, storedBytes: 0 };
  return [...names].map(([period, ofPeriod]) => {
    const sum = (of: (backup: BackupStats) => number): number => ofPeriod.reduce((all, one) => all + of(one), 0);
    const logicalBytes = sum((backup) => backup.logicalBytes);
    const newBytes = sum((backup) => backup.newBytes);
    const newStoredBytes = sum((backup) => backup.newStoredBytes);
    until.backups += ofPeriod.length;
    until.logicalBytes += logicalBytes;
    until.uniqueBytes += newBytes;
    until.storedBytes += newStoredBytes;
    const lastSeconds = ofPeriod.at(-1)?.ref.timeSeconds ?? 0;
    const own = { period, lastSeconds, backups: ofPeriod.length, logicalBytes, newBytes, newStoredBytes };
    return { ...own, untilThen: { ...until } };
  });
}

/** How many bytes that are not zero stand behind each that is stored; undefined where nothing is. */
export function ratioOf({
  logicalBytes,
  storedBytes,
}: {
  logicalBytes: number;
  storedBytes: number;
}): number | undefined {
  return storedBytes > 0 ? logicalBytes / storedBytes : undefined;
}
