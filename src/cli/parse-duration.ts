// SPDX-License-Identifier: MIT
// Spans of time as people type them: "90min", "26h", "30d".

import { UsageError } from '../base/errors.js';

const SECONDS: Readonly<Record<string, number>> = { s: 1, min: 60, h: 3600, d: 86_400, w: 604_800 };
const DURATION = /^(\d{1,9}(?:\.\d{1,3})?)(s|min|h|d|w)$/;

/** In seconds. @throws UsageError that names the flag. */
export function parseDuration(text: string, flag: string): number {
  const [, number = '', unit = ''] = DURATION.exec(text) ?? [];
  const seconds = Number(number) * (SECONDS[unit] ?? 0);
  if (seconds > 0) return seconds;
  throw new UsageError('bad-duration', 'this is not a span of time', {
    object: `${flag} ${text}`,
    expected: 'a number with s, min, h, d or w: 90min, 26h, 30d',
  });
}
