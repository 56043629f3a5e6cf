// SPDX-License-Identifier: MIT
// When a job runs: calendar events of systemd, a part of them. The same text is what OnCalendar= is given.

import { UsageError } from '../base/errors.js';
import {
  type FieldName,
  parseDate,
  parseTime,
  parseWeekdays,
  SHORTHANDS,
  spellDate,
  spellTime,
} from './schedule-fields.js';

/** The values that a field may have; undefined: any. */
export type FieldValues = ReadonlySet<number> | undefined;

export interface Schedule extends Readonly<Record<FieldName, FieldValues>> {
  /** For OnCalendar=: as given, but for what systemd would not take. */
  readonly text: string;
}

/**
 * Reads a calendar event: `daily`, `02:00`, `Mon..Fri 22:30`, `Sat *-*-1..7 04:00`, `*-*-* 0/6:15`.
 * @throws UsageError that says what was expected
 */
export function parseSchedule(text: string): Schedule {
  const words = (SHORTHANDS[text.trim().toLowerCase()] ?? text).trim().split(/\s+/);
  const rest = [...words];
  const weekdays = /^[A-Za-z]/.test(rest[0] ?? '') ? parseWeekdays(rest.shift() ?? '') : undefined;
  const date = rest[0]?.includes('-') ? parseDate(rest.shift() ?? '') : {};
  const time = rest[0]?.includes(':') ? parseTime(rest.shift() ?? '') : { hour: ZERO, minute: ZERO, second: ZERO };
  if (weekdays === 'wrong' || date === 'wrong' || time === 'wrong' || rest.length > 0 || words[0] === '') {
    throw new UsageError('bad-schedule', 'this is not a calendar event', { object: text, expected: EXPECTED });
  }
  return {
    text: words.map((word) => (word.includes(':') ? spellTime(word) : spellDate(word))).join(' '),
    year: undefined,
    month: undefined,
    day: undefined,
    weekday: weekdays,
    ...date,
    ...time,
  };
}

const ZERO: FieldValues = new Set([0]);
const EXPECTED = 'daily, 02:00, "Mon..Fri 22:30", "Sat *-*-1..7 04:00" or "*-*-* 0/6:15"';

const DAY_MILLIS = 86_400_000;
/** As systemd. */
const LAST_YEAR = 2199;

/**
 * The first time after `afterMillis` (milliseconds since 1970) that the event names, in the time zone of this host;
 * Infinity if there is none before the year 2200. A time that a change of the clocks leaves out is none; one that it
 * brings twice is the first of them, or where that is over the second.
 */
export function nextRun(schedule: Schedule, afterMillis: number): number {
  const start = new Date(afterMillis);
  for (let ahead = 0; ; ahead++) {
    const day = new Date(start.getFullYear(), start.getMonth(), start.getDate() + ahead);
    const year = day.getFullYear();
    if (year > LAST_YEAR) return Number.POSITIVE_INFINITY;
    if (!isDayOf(schedule, day)) {
      // Years are skipped at once: "2199-01-01" is no reason to look at sixty thousand days.
      if (!has(schedule.year, year)) ahead += daysLeftInYear(day);
      continue;
    }
    const found = firstTime(schedule, day, afterMillis);
    if (found !== undefined) return found;
  }
}

function isDayOf({ year, month, day, weekday }: Schedule, date: Date): boolean {
  return (
    has(year, date.getFullYear()) &&
    has(month, date.getMonth() + 1) &&
    has(day, date.getDate()) &&
    has(weekday, date.getDay())
  );
}

function daysLeftInYear(day: Date): number {
  const last = Date.UTC(day.getFullYear(), 11, 31);
  return Math.round((last - Date.UTC(day.getFullYear(), day.getMonth(), day.getDate())) / DAY_MILLIS);
}

function firstTime(schedule: Schedule, day: Date, afterMillis: number): number | undefined {
  const at = (hour: number, minute: number, second: number): Date =>
    new Date(day.getFullYear(), day.getMonth(), day.getDate(), hour, minute, second);
  const shift = secondTimeMillis(afterMillis);
  for (const hour of valuesOf(schedule.hour, 24)) {
    if (at(hour, 59, 59).getTime() + shift <= afterMillis) continue;
    for (const minute of valuesOf(schedule.minute, 60)) {
      if (at(hour, minute, 59).getTime() + shift <= afterMillis) continue;
      for (const second of valuesOf(schedule.second, 60)) {
        const first = at(hour, minute, second).getTime();
        const time = new Date(first > afterMillis ? first : first + shift);
        if (time.getTime() > afterMillis && time.getHours() === hour && time.getMinutes() === minute) {
          return time.getTime();
        }
      }
    }
  }
  return undefined;
}

/** How long ago the clocks showed the same before, where they show it for the second time; else 0. */
function secondTimeMillis(millis: number): number {
  const at = new Date(millis);
  const [hour, minute, second, milli] = [at.getHours(), at.getMinutes(), at.getSeconds(), at.getMilliseconds()];
  return millis - new Date(at.getFullYear(), at.getMonth(), at.getDate(), hour, minute, second, milli).getTime();
}

function has(values: FieldValues, value: number): boolean {
  return values === undefined || values.has(value);
}

function valuesOf(values: FieldValues, end: number): readonly number[] {
  const all = Array.from({ length: end }, (_, value) => value);
  return values === undefined ? all : all.filter((value) => values.has(value));
}
