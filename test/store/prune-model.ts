// SPDX-License-Identifier: MIT
// Retention once more, in another way: by groups of whole periods, with the calendar of Intl instead of Date's.

import type { Keep, PruneCandidate } from '#vmar/src/store/prune-plan.js';

const RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
type Rule = (typeof RULES)[number];
type Counts = Exclude<Keep, 'all'>;

/** Names of periods of a time zone. */
export class ModelCalendar {
  readonly #format: Intl.DateTimeFormat;
  readonly #names = new Map<number, Record<Rule, string>>();

  constructor(timeZone: string) {
    const two = '2-digit';
    this.#format = new Intl.DateTimeFormat('en-GB', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: two,
      day: two,
      hour: two,
    });
  }

  name(rule: Rule, timeSeconds: number): string {
    const known = this.#names.get(timeSeconds);
    if (known !== undefined) return known[rule];
    const parts = new Map(this.#format.formatToParts(timeSeconds * 1000).map(({ type, value }) => [type, value]));
    const [year = '', month = '', day = '', hour = ''] = (['year', 'month', 'day', 'hour'] as const).map((part) =>
      parts.get(part),
    );
    const names = {
      last: String(timeSeconds),
      hourly: `${year}-${month}-${day} ${hour}`,
      daily: `${year}-${month}-${day}`,
      weekly: isoWeek(Number(year), Number(month), Number(day)),
      monthly: `${year}-${month}`,
      yearly: year,
    };
    this.#names.set(timeSeconds, names);
    return names[rule];
  }
}

/** By counting: week 1 is the one with January 4th in it. */
function isoWeek(year: number, month: number, day: number): string {
  const dayNumber = (y: number, m: number, d: number) => Date.UTC(y, m - 1, d) / 86_400_000;
  const monday = (number: number) => number - ((((number + 3) % 7) + 7) % 7);
  const today = dayNumber(year, month, day);
  for (const weekYear of [year + 1, year, year - 1]) {
    const first = monday(dayNumber(weekYear, 1, 4));
    if (monday(today) >= first) return `${weekYear} week ${(monday(today) - first) / 7 + 1}`;
  }
  throw new Error('every day is in a week');
}

/** The times that stay, of sound backups in any order. */
export function modelKept(candidates: readonly PruneCandidate[], counts: Counts, calendar: ModelCalendar): Set<number> {
  const kept = new Set<number>();
  let open = candidates.map(({ ref }) => ref.timeSeconds).sort((a, b) => b - a);
  for (const rule of RULES) {
    const taken = new Set([...kept].map((time) => calendar.name(rule, time)));
    const periods = new Map<string, number[]>();
    for (const time of open) {
      const name = calendar.name(rule, time);
      if (!taken.has(name)) periods.set(name, [...(periods.get(name) ?? []), time]);
    }
    const counted = [...periods.values()].slice(0, counts[rule] ?? 0);
    for (const times of counted) kept.add(Math.max(...times));
    const done = new Set(counted.flat());
    open = open.filter((time) => !done.has(time));
  }
  return kept;
}
