// SPDX-License-Identifier: MIT
// The parts of a calendar event: weekdays, date and time, each a list of values, ranges and steps.

export type FieldName = 'year' | 'month' | 'day' | 'weekday' | 'hour' | 'minute' | 'second';

type Values = ReadonlySet<number> | undefined;
type Parsed<Names extends FieldName> = Readonly<Record<Names, Values>> | 'wrong';

/** As systemd.time(7) spells them out. */
export const SHORTHANDS: Readonly<Record<string, string>> = {
  minutely: '*-*-* *:*:00',
  hourly: '*-*-* *:00:00',
  daily: '*-*-* 00:00:00',
  weekly: 'Mon *-*-* 00:00:00',
  monthly: '*-*-01 00:00:00',
  quarterly: '*-01,04,07,10-01 00:00:00',
  semiannually: '*-01,07-01 00:00:00',
  yearly: '*-01-01 00:00:00',
  annually: '*-01-01 00:00:00',
};

/** Numbers of Date: Sunday is 0. */
const WEEKDAYS = ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday'];
const DAYS_IN_WEEK = 7;
const FIRST_YEAR = 1970;

/** "Mon,Wed..Fri" */
export function parseWeekdays(text: string): Values | 'wrong' {
  const days = new Set<number>();
  for (const item of text.split(',')) {
    const [first, last, ...more] = item.split('..').map(weekdayOf);
    if (first === undefined || more.length > 0) return 'wrong';
    if (!item.includes('..')) days.add(first);
    // From Monday to Sunday, as systemd: a range does not go round.
    else if (last === undefined || fromMonday(last) < fromMonday(first)) return 'wrong';
    else for (let day = fromMonday(first); day <= fromMonday(last); day++) days.add((day + 1) % DAYS_IN_WEEK);
  }
  return days;
}

function fromMonday(day: number): number {
  return (day + DAYS_IN_WEEK - 1) % DAYS_IN_WEEK;
}

function weekdayOf(text: string): number | undefined {
  const word = text.toLowerCase();
  const day = WEEKDAYS.findIndex((name) => name === word || name.slice(0, 3) === word);
  return day < 0 ? undefined : day;
}

/** "2026-11-21", "*-*-1..7", or "11-21" without a year. */
export function parseDate(text: string): Parsed<'year' | 'month' | 'day'> {
  const parts = text.split('-');
  const [year, month, day] = parts.length === 2 ? ['*', ...parts] : parts;
  if (parts.length > 3 || year === undefined || month === undefined || day === undefined) return 'wrong';
  const parsed = {
    year: parseField(year, FIRST_YEAR, 2199),
    month: parseField(month, 1, 12),
    day: parseField(day, 1, 31),
  };
  return allRight(parsed);
}

/** A date as systemd takes it, which knows no step from "*". */
export function spellDate(text: string): string {
  const parts = text.split('-');
  return parts.map((part, at) => spellSteps(part, at === parts.length - 3 ? FIRST_YEAR : 1)).join('-');
}

export function spellTime(text: string): string {
  return spellSteps(text, 0);
}

function spellSteps(text: string, least: number): string {
  return text.replaceAll('*/', `${least}/`);
}

/** "02:00", "*:0/15", "04:00:30" */
export function parseTime(text: string): Parsed<'hour' | 'minute' | 'second'> {
  const [hour, minute, second = '0', ...more] = text.split(':');
  if (hour === undefined || minute === undefined || more.length > 0) return 'wrong';
  return allRight({
    hour: parseField(hour, 0, 23),
    minute: parseField(minute, 0, 59),
    second: parseField(second, 0, 59),
  });
}

function allRight<Name extends FieldName>(fields: Record<Name, Values | 'wrong'>): Parsed<Name> {
  const values = Object.values<Values | 'wrong'>(fields);
  return values.includes('wrong') ? 'wrong' : (fields as Record<Name, Values>);
}

const ITEM = /^(?:\*|(\d{1,4})(?:\.\.(\d{1,4}))?)(?:\/(\d{1,4}))?$/;

/** "*", "1,15", "8..17", "0/15", "8..20/4" */
function parseField(text: string, least: number, most: number): Values | 'wrong' {
  if (text === '*') return undefined;
  const values = new Set<number>();
  for (const item of text.split(',')) {
    const match = ITEM.exec(item);
    if (match === null) return 'wrong';
    const [, first, last, step] = match;
    const from = first === undefined ? least : Number(first);
    const to = last === undefined ? (step === undefined && first !== undefined ? from : most) : Number(last);
    const by = step === undefined ? 1 : Number(step);
    if (from < least || to > most || from > to || by === 0) return 'wrong';
    // As systemd: a step that leads nowhere was not meant. "0/90" would be every hour, not every 90 minutes.
    if (step !== undefined && last === undefined && from + by > most) return 'wrong';
    for (let value = from; value <= to; value += by) values.add(value);
  }
  return values;
}
