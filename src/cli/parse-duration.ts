// SPDX-License-Identifier: MIT
// Spans of time as people type them: "90min", "26h", "30d".

import { UsageError } from '../base/errors.js';
import { durationSecondsOf } from '../base/quantities.js';

/** In seconds. @throws UsageError that names the flag. */
export function parseDuration(text: string, flag: string): number {
  const seconds = durationSecondsOf(text);
  if (seconds !== undefined) return seconds;
  throw new UsageError('bad-duration', 'this is not a span of time', {
    object: `${flag} ${text}`,
    expected: 'a number with s, min, h, d or w: 90min, 26h, 30d',
  });
}
