// SPDX-License-Identifier: MIT
// Names and times as the format has them (SPEC.md §5 and §8).

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const MAX_NAMESPACE_PARTS = 8;
const MAX_CONFIG_NAME_BYTES = 255;

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
  if (text === '' || text === '.' || text === '..' || text.includes('/')) return false;
  if (Buffer.byteLength(text) > MAX_CONFIG_NAME_BYTES || Buffer.from(text).toString() !== text) return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  return !/[\u0000-\u001f\u007f]/.test(text);
}

/** Years of four digits only: 9999-12-31T23:59:59Z. */
export const MAX_TIME_SECONDS = 253402300799;

/** `2026-11-21T02:00:00Z` */
export function formatTime(seconds: number): string {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
}

/** Seconds since 1970, or undefined if it is not exactly what `formatTime` writes. */
export function parseTime(text: string): number | undefined {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/.test(text)) return undefined;
  const seconds = Date.parse(text) / 1000;
  return Number.isSafeInteger(seconds) && seconds >= 0 && formatTime(seconds) === text ? seconds : undefined;
}
