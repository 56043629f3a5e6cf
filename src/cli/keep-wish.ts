// SPDX-License-Identifier: MIT
// What --keep-… flags ask for.

import { UsageError } from '../base/errors.js';
import { KEEP_RULES } from '../store/prune-periods.js';
import type { Keep } from '../store/prune-plan.js';
import { parseCount } from './parse-count.js';

export interface KeepFlags {
  readonly keepAll?: boolean;
  readonly keepLast?: string;
  readonly keepHourly?: string;
  readonly keepDaily?: string;
  readonly keepWeekly?: string;
  readonly keepMonthly?: string;
  readonly keepYearly?: string;
}

const MOST_KEPT = 1_000_000;

const FLAGS = {
  last: 'keepLast',
  hourly: 'keepHourly',
  daily: 'keepDaily',
  weekly: 'keepWeekly',
  monthly: 'keepMonthly',
  yearly: 'keepYearly',
} as const;

/** @throws UsageError unless something is kept: no flags, or only zeros, would remove every backup there is. */
export function readKeep(flags: KeepFlags): Keep {
  const given = KEEP_RULES.flatMap((rule) => {
    const text = flags[FLAGS[rule]];
    return text === undefined ? [] : [[rule, parseCount(text, `--keep-${rule}`, 0, MOST_KEPT)] as const];
  });
  if (flags.keepAll === true) {
    if (given.length === 0) return 'all';
    throw new UsageError('keep-conflict', '--keep-all goes with no other --keep option');
  }
  if (given.some(([, count]) => count > 0)) return Object.fromEntries(given);
  const why = given.length === 0 ? 'nothing says what to keep' : 'this would keep nothing';
  throw new UsageError('keep-nothing', `${why}, and all backups would go`, {
    advice: 'Give --keep-last N, --keep-daily N or another; `vmar prune --help` tells more.',
  });
}
