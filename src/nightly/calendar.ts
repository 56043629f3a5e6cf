// SPDX-License-Identifier: MIT
// What came of each night, guest by guest, by the calendar of this host: what was backed up, what failed, what should have
// been and was not.

import { type BackupRef, formatBackupId, formatGuest, type GuestRef } from '../store/backup-id.js';
import { localPeriodOf } from '../store/prune-periods.js';
import { isUnderWay, type SeenReport } from './history.js';
import { nextRun, type Schedule } from './schedule.js';

export type NightState =
  /** There is a good backup. */
  | 'ok'
  /** One was made, and is no more: it was pruned or forgotten. */
  | 'gone'
  /** There is a backup, and it is damaged. */
  | 'damaged'
  | 'failed'
  /** The schedule names the day, and nothing was run. */
  | 'missed'
  /** Nothing was to be done, as far as is known. */
  | 'none';

export interface Night {
  readonly state: NightState;
  /** Good ones that are there. */
  readonly backups: number;
  /** What went wrong, as the reports tell; each once. */
  readonly errors: readonly string[];
}

export interface Calendar {
  /** `2026-11-21`, in the order of time; the last is today. */
  readonly days: readonly string[];
  readonly guests: readonly { readonly guest: GuestRef; readonly nights: readonly Night[] }[];
}

export interface CalendarGuest {
  readonly guest: GuestRef;
  /** All of its backups, of whatever state, ordered by time. */
  readonly backups: readonly BackupRef[];
  readonly schedules: readonly Schedule[];
}

export interface CalendarFacts {
  readonly guests: readonly CalendarGuest[];
  readonly reports: readonly SeenReport[];
  /** Full ids of backups that are damaged. */
  readonly damaged: ReadonlySet<string>;
  readonly nowMillis: number;
  /** How long after its time a run counts as missed. */
  readonly graceMillis: number;
  readonly days: number;
}

/** More runs of a schedule than nights are not looked at one by one. */
const MOST_RUNS = 4000;
/** What began so long after a run of the schedule is none of it. */
const LATEST_MILLIS = 18 * 3600 * 1000;

export function makeCalendar(facts: CalendarFacts): Calendar {
  const today = new Date(facts.nowMillis);
  const starts = Array.from({ length: facts.days }, (_, index) =>
    new Date(today.getFullYear(), today.getMonth(), today.getDate() - (facts.days - 1 - index)).getTime(),
  );
  const days = starts.map((millis) => dayOf(millis));
  const guests = facts.guests.map((guest) => ({
    guest: guest.guest,
    nights: nightsOf(guest, days, starts[0] ?? 0, facts),
  }));
  return { days, guests };
}

interface Draft {
  good: number;
  damaged: number;
  ok: number;
  errors: Set<string>;
  isMissed: boolean;
}

function nightsOf(of: CalendarGuest, days: readonly string[], firstMillis: number, facts: CalendarFacts): Night[] {
  const drafts = new Map<string, Draft>();
  for (const day of days) drafts.set(day, { good: 0, damaged: 0, ok: 0, errors: new Set(), isMissed: false });
  const runs = runsOf(of.schedules, firstMillis, facts.nowMillis);
  const at = (millis: number): Draft | undefined => drafts.get(dayOf(runBefore(runs, millis) ?? millis));
  for (const ref of of.backups) {
    const draft = at(ref.timeSeconds * 1000);
    if (draft === undefined) continue;
    if (facts.damaged.has(formatBackupId(ref))) draft.damaged++;
    else draft.good++;
  }
  const done = reportsOf(of.guest, facts.reports);
  for (const { outcome, error, startedMillis } of done) {
    const draft = at(startedMillis);
    if (draft === undefined) continue;
    if (outcome === 'ok') draft.ok++;
    else if (outcome !== 'skipped' && !isUnderWay(outcome)) draft.errors.add(error === '' ? outcome : error);
  }
  const known = [...of.backups.map(({ timeSeconds }) => timeSeconds * 1000), ...done.map((one) => one.startedMillis)];
  const sinceMillis = known.reduce((least, millis) => Math.min(least, millis), Number.POSITIVE_INFINITY);
  for (const run of runs) {
    const draft = drafts.get(dayOf(run));
    if (draft !== undefined && run >= sinceMillis && run + facts.graceMillis < facts.nowMillis) draft.isMissed = true;
  }
  return days.map((day) => settle(drafts.get(day)));
}

function settle(draft: Draft | undefined): Night {
  if (draft === undefined) return { state: 'none', backups: 0, errors: [] };
  const night = { backups: draft.good, errors: [...draft.errors] };
  if (draft.damaged > 0) return { ...night, state: 'damaged' };
  if (draft.good > 0) return { ...night, state: 'ok' };
  if (draft.ok > 0) return { ...night, state: 'gone' };
  if (draft.errors.size > 0) return { ...night, state: 'failed' };
  return { ...night, state: draft.isMissed ? 'missed' : 'none' };
}

/** What backup jobs did for a guest. */
function reportsOf(guest: GuestRef, reports: readonly SeenReport[]): SeenReport['guests'][number][] {
  const name = formatGuest(guest);
  return reports
    .filter(({ kind }) => kind === 'backup')
    .flatMap(({ guests }) => guests.filter((one) => one.guest === name || `vm/${one.guest}` === name));
}

/** When the schedules named a time, in order. */
function runsOf(schedules: readonly Schedule[], firstMillis: number, untilMillis: number): number[] {
  const runs = new Set<number>();
  for (const schedule of schedules) {
    let at = firstMillis - 1;
    for (let count = 0; count < MOST_RUNS; count++) {
      at = nextRun(schedule, at);
      if (!(at <= untilMillis)) break;
      runs.add(at);
    }
  }
  return [...runs].sort((a, b) => a - b);
}

/** The run that a time belongs to: a night that begins before midnight goes on after it. */
function runBefore(runs: readonly number[], millis: number): number | undefined {
  const run = runs.findLast((one) => one <= millis);
  return run !== undefined && millis - run <= LATEST_MILLIS ? run : undefined;
}

function dayOf(millis: number): string {
  return localPeriodOf('daily', Math.floor(millis / 1000));
}
