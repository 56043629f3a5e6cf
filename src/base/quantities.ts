// SPDX-License-Identifier: MIT
// Sizes and spans of time as people write them, on the command line and in files.

const SIZE = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?$/i;
const BYTES: Readonly<Record<string, number>> = { b: 1, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 };
const SECONDS: Readonly<Record<string, number>> = { s: 1, min: 60, h: 3600, d: 86_400, w: 604_800 };
const DURATION = /^(\d{1,9}(?:\.\d{1,3})?)(s|min|h|d|w)$/;

/** "64KiB", "1.5GiB", "4096" in bytes; undefined for anything but a whole number of bytes below 2^53. */
export function sizeBytesOf(text: string): number | undefined {
  const match = SIZE.exec(text);
  const bytes = match === null ? Number.NaN : Number(match[1]) * (BYTES[(match[2] ?? 'B').toLowerCase()] ?? Number.NaN);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** "90min", "26h", "30d" in seconds; undefined for anything else, and for no time at all. */
export function durationSecondsOf(text: string): number | undefined {
  const [, number = '', unit = ''] = DURATION.exec(text) ?? [];
  const seconds = Number(number) * (SECONDS[unit] ?? 0);
  return seconds > 0 ? seconds : undefined;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** "1.5 GiB" */
export function humanSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 1023.95 would be shown as 1024.
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : Math.round(value * 10) / 10} ${UNITS[unit]}`;
}
