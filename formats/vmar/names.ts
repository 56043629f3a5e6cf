// SPDX-License-Identifier: MIT
// Names and times as the format has them (SPEC.md §5 and §8).

import { UsageError } from '../../src/base/errors.js';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const MAX_NAMESPACE_PARTS = 8;
const MAX_CONFIG_NAME_BYTES = 255;
/** Control characters, and halves of surrogate pairs, which UTF-8 cannot hold. */
const NOT_IN_CONFIG_NAMES = /[/\p{Cc}\p{Cs}]/u;
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/;

/** A guest id, a disk name, or one part of a namespace. */
export function isName(text: string): boolean {
  return NAME.test(text);
}

/** One to eight names separated by "/", none of them "vm". "" is no namespace; callers allow it where none is fine. */
export function isNamespace(text: string): boolean {
  const parts = text.split('/');
  return parts.length <= MAX_NAMESPACE_PARTS && parts.every((part) => isName(part) && part !== 'vm');
}

/** A base name that is safe to write into any directory. */
export function isConfigName(text: string): boolean {
  if (text === '' || text === '.' || text === '..') return false;
  return Buffer.byteLength(text) <= MAX_CONFIG_NAME_BYTES && !NOT_IN_CONFIG_NAMES.test(text);
}

/** Years of four digits only: 9999-12-31T23:59:59Z. */
export const MAX_TIME_SECONDS = 253402300799;

/** True for what has a form in paths: whole seconds since 1970, before the year 10000. */
export function isTime(seconds: number): boolean {
  return Number.isInteger(seconds) && seconds >= 0 && seconds <= MAX_TIME_SECONDS;
}

/** `2026-11-21T02:00:00Z` */
export function formatTime(seconds: number): string {
  if (!isTime(seconds)) throw new UsageError('bad-time', 'this is not the time of a backup', { found: `${seconds}` });
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
}

/** Seconds since 1970, or undefined if it is not exactly what `formatTime` writes. */
export function parseTime(text: string): number | undefined {
  if (!TIME.test(text)) return undefined;
  const seconds = Date.parse(text) / 1000;
  return isTime(seconds) && formatTime(seconds) === text ? seconds : undefined;
}
