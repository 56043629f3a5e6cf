// SPDX-License-Identifier: MIT
// The values that a configuration is made of. The message of every schema is what it expects; who tells of a problem
// adds what was found.

import { isAbsolute } from 'node:path';
import * as z from 'zod';
import { isName } from '../../formats/vmar/names.js';
import { UsageError } from '../base/errors.js';
import { durationSecondsOf, sizeBytesOf } from '../base/quantities.js';
import { isNbdUri } from '../nbd/client/nbd-uri.js';
import { KEEP_RULES } from '../store/prune-periods.js';
import type { Keep } from '../store/prune-plan.js';
import type { CommandConfig } from './config.js';
import { parseSchedule } from './schedule.js';

/** A text that `read` makes a value of; undefined is refused. */
export function textAs<Value>(expected: string, read: (text: string) => Value | undefined) {
  return z.string({ error: expected }).transform((text, context): Value => {
    const value = read(text);
    if (value !== undefined) return value;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
}

/** A map with these keys and no others; see `knownKeys`. */
export function mapOf<Shape extends z.core.$ZodLooseShape>(expected: string, shape: Shape) {
  return z.strictObject(shape, {
    error: (issue) => (issue.code === 'unrecognized_keys' ? Object.keys(shape).join(' ') : expected),
  });
}

/** From the message of an issue about unknown keys. */
export function knownKeys(message: string): readonly string[] {
  return message.split(' ');
}

/** A map of any names. */
export function namesTo<Value extends z.ZodType>(expected: string, value: Value) {
  return z.record(z.string(), value, { error: expected });
}

/** A list; one alone need not be in brackets. */
export function listOf<Value extends z.ZodType>(expected: string, value: Value) {
  const list = z.array(value, { error: expected }).min(1, { error: expected });
  return z.preprocess((given) => (typeof given === 'string' && given !== '' ? [given] : given), list);
}

export const text = textAs('a text', (given) => (given === '' ? undefined : given));
export const yesOrNo = textAs('true or false', (given) => ({ true: true, false: false })[given]);
export const absolutePath = textAs('an absolute path', (given) => (isPath(given) ? given : undefined));
export const place = textAs('an absolute path, or an NBD URI', (given) =>
  isPath(given) || isNbdUri(given) ? given : undefined,
);
export const size = textAs('a size, such as 512MiB or 50GiB', sizeBytesOf);
export const span = textAs('a span of time: a number with s, min, h, d or w', (given) => {
  const seconds = durationSecondsOf(given);
  return seconds === undefined ? undefined : Math.ceil(seconds * 1000);
});
export const diskName = textAs('the name of a disk: letters, digits, ".", "_" and "-"', (given) =>
  isName(given) ? given : undefined,
);
export const storeUuid = textAs('32 hexadecimal digits, as `vmar init` prints them', (given) => {
  const digits = given.toLowerCase().replaceAll('-', '');
  return /^[0-9a-f]{32}$/.test(digits) ? digits : undefined;
});

export const schedule = textAs('a calendar event: daily, 02:00, "Mon..Fri 22:30", "Sat *-*-1..7 04:00"', (given) => {
  try {
    return parseSchedule(given);
  } catch (error) {
    if (error instanceof UsageError) return undefined;
    throw error;
  }
});

export function count(least: number, most: number) {
  return textAs(`a whole number from ${least} to ${most}`, (given) => {
    const value = /^\d{1,9}$/.test(given) ? Number(given) : Number.NaN;
    return value >= least && value <= most ? value : undefined;
  });
}

/** One schema or the other, by how a value looks, so that what is wrong is told by the one that was meant. */
export function byLook<First extends z.ZodType, Second extends z.ZodType>(
  isFirst: (given: unknown) => boolean,
  first: First,
  second: Second,
) {
  return z.unknown().transform((given, context): z.output<First> | z.output<Second> => {
    const parsed = (isFirst(given) ? first : second).safeParse(given);
    if (parsed.success) return parsed.data;
    for (const issue of parsed.error.issues) context.addIssue({ ...issue });
    return z.NEVER;
  });
}

export function isText(given: unknown): boolean {
  return typeof given === 'string';
}

const COMMAND = 'a command: a text for the shell, or a list of its words';

export const command = byLook(
  isText,
  textAs(COMMAND, (given): CommandConfig | undefined => (given === '' ? undefined : { kind: 'shell', text: given })),
  z
    .array(z.string({ error: COMMAND }), { error: COMMAND })
    .min(1, { error: COMMAND })
    .transform((words): CommandConfig => ({ kind: 'words', words })),
);

const MOST_KEPT = 1_000_000;
const KEEP = `all, or how many to keep by rule: ${KEEP_RULES.join(', ')}, at least one above 0`;
const rules = Object.fromEntries(KEEP_RULES.map((rule) => [rule, count(0, MOST_KEPT).optional()]));

const keepRules = mapOf(KEEP, rules).transform((given, context): Keep => {
  const keep = Object.fromEntries(Object.entries(given).filter(([, most]) => most !== undefined));
  if (Object.values(keep).some((most) => typeof most === 'number' && most > 0)) return keep;
  context.addIssue({ code: 'custom', message: KEEP });
  return z.NEVER;
});

export const retention = byLook((given) => given === 'all', z.literal('all'), keepRules);

function isPath(given: string): boolean {
  return isAbsolute(given) && !given.includes('\0');
}
