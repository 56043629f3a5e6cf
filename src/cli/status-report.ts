// SPDX-License-Identifier: MIT
// What vmar status prints.

import { diskBytes } from '../../formats/vmar/manifest.js';
import { formatTime } from '../../formats/vmar/names.js';
import { type GuestHealth, isWell } from '../nightly/guest-health.js';
import { formatBackupId, formatGuest } from '../store/backup-id.js';
import type { GuestStatus } from '../store/guest-status.js';
import { counted, humanAge, humanSize, humanTime } from './human.js';
import type { Output } from './output.js';
import { type Column, renderTable } from './table.js';

export interface StatusFacts {
  readonly mostAgeSeconds?: number;
  readonly hasConfig: boolean;
  readonly nowMillis: number;
}

export function statusDocument(guests: readonly GuestHealth[], { mostAgeSeconds }: StatusFacts) {
  return {
    ok: guests.every(isWell),
    ...(mostAgeSeconds === undefined ? {} : { maxAge: mostAgeSeconds }),
    guests: guests.map(guestDocument),
  };
}

function guestDocument(health: GuestHealth) {
  const { last, ageSeconds, damaged, olderDamaged, inFuture, overdue, verifiedMillis, nextRunMillis, jobs } = health;
  return {
    guest: formatGuest(health.guest),
    backups: health.backups,
    ...(last === undefined ? {} : { last: formatBackupId(last.ref), time: formatTime(last.ref.timeSeconds) }),
    ...(ageSeconds === undefined ? {} : { age: ageSeconds }),
    size: sizeOf(health),
    overdue: overdue !== undefined,
    ...(overdue === undefined ? {} : { why: overdue.why }),
    ...(overdue?.why === 'missed' ? { missed: timeOf(overdue.dueMillis) } : {}),
    ...(verifiedMillis === undefined ? {} : { verified: timeOf(verifiedMillis) }),
    ...(jobs.length === 0 ? {} : { jobs }),
    ...(nextRunMillis === undefined ? {} : { nextRun: timeOf(nextRunMillis) }),
    ...(inFuture === 0 ? {} : { inFuture }),
    ...(damaged.length === 0
      ? {}
      : {
          damaged: damaged.map(({ ref, path, error }) => ({
            ...{ backup: formatBackupId(ref), file: path, message: error.message },
          })),
        }),
    ...(olderDamaged.length === 0 ? {} : { olderDamaged: olderDamaged.map(formatBackupId) }),
  };
}

function timeOf(millis: number): string {
  return formatTime(Math.floor(millis / 1000));
}

/** Lengths of the disks of its last good backup. */
export function sizeOf({ last }: GuestStatus): number {
  return last === undefined ? 0 : diskBytes(last.manifest);
}

export function statusText(output: Output, guests: readonly GuestHealth[], facts: StatusFacts): string {
  if (guests.length === 0) return output.quiet ? '' : 'no backups';
  const columns: Column[] = [
    { title: 'guest' },
    { title: 'last good backup' },
    { title: 'age' },
    { title: 'size', align: 'right' },
    { title: 'backups', align: 'right' },
    { title: 'verified' },
    ...(facts.hasConfig ? [{ title: 'next run' }] : []),
    { title: '' },
  ];
  const rows = guests.map((health) => {
    const { last, ageSeconds, nextRunMillis } = health;
    const row = [
      formatGuest(health.guest),
      last === undefined ? 'none' : humanTime(last.ref.timeSeconds),
      ageSeconds === undefined ? '' : humanAge(ageSeconds),
      last === undefined ? '' : humanSize(sizeOf(health)),
      String(health.backups),
      verifiedText(health, facts.nowMillis),
      ...(facts.hasConfig ? [nextRunMillis === undefined ? '-' : humanTime(nextRunMillis / 1000)] : []),
      remarks(health).join('; '),
    ];
    return isWell(health) ? row : row.map((cell) => output.paint('red', cell));
  });
  return renderTable(output.paint, columns, rows);
}

function verifiedText({ last, verifiedMillis }: GuestHealth, nowMillis: number): string {
  if (last === undefined) return '';
  if (verifiedMillis === undefined) return 'never';
  return `${humanAge(Math.max(0, (nowMillis - verifiedMillis) / 1000))} ago`;
}

/** What needs somebody to look. */
export function remarks({ overdue, last, damaged, olderDamaged, inFuture }: GuestHealth): string[] {
  const missed =
    overdue?.why === 'missed' ? `: ${overdue.job} of ${humanTime(overdue.dueMillis / 1000)} is missing` : '';
  return [
    ...(overdue === undefined ? [] : [`overdue${missed}`]),
    ...(damaged.length === 0
      ? []
      : [`${counted(damaged.length, last === undefined ? 'backup' : 'newer backup')} damaged`]),
    ...(olderDamaged.length === 0 ? [] : [`${counted(olderDamaged.length, 'older backup')} damaged`]),
    ...(inFuture > 0 ? [`${counted(inFuture, 'backup')} in the future: was the clock wrong?`] : []),
  ];
}
