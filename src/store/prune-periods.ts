// SPDX-License-Identifier: MIT
// The hours, days, weeks, months and years that retention counts by, as names: two backups are of one period if the names
// are the same.

/** In the order in which they are applied. */
export const KEEP_RULES = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type KeepRule = (typeof KEEP_RULES)[number];

/** The name of the rule's period that a time (seconds since 1970) is in; no two times are of one period of 'last'. */
export type PeriodOf = (rule: KeepRule, timeSeconds: number) => string;

/**
 * Periods of the host's time zone. The hour that is twice when summer time ends is one period, as it has one name. Weeks
 * are those of ISO 8601: from Monday, and of the year that their Thursday is in.
 */
export const localPeriodOf: PeriodOf = (rule, timeSeconds) => {
  if (rule === 'last') return `${timeSeconds}`;
  const date = new Date(timeSeconds * 1000);
  const year = four(date.getFullYear());
  const month = `${year}-${two(date.getMonth() + 1)}`;
  switch (rule) {
    case 'hourly':
      return `${month}-${two(date.getDate())} ${two(date.getHours())}:00`;
    case 'daily':
      return `${month}-${two(date.getDate())}`;
    case 'weekly':
      return isoWeek(date);
    case 'monthly':
      return month;
    case 'yearly':
      return year;
  }
};

const DAY_MILLIS = 86_400_000;

/** By the local date alone, reckoned in UTC, where every day has 24 hours. */
function isoWeek(date: Date): string {
  const day = Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  const daysSinceMonday = (date.getDay() + 6) % 7;
  const thursday = day + (3 - daysSinceMonday) * DAY_MILLIS;
  const year = new Date(thursday).getUTCFullYear();
  const week = Math.floor((thursday - Date.UTC(year, 0, 1)) / (7 * DAY_MILLIS)) + 1;
  return `${four(year)}-W${two(week)}`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

function four(value: number): string {
  return String(value).padStart(4, '0');
}
