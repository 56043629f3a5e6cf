// SPDX-License-Identifier: MIT
// All that the report tells, before it is a page.

import type { DiskChanges } from '../../archive/stats/changes.js';
import type { PeriodStats } from '../../archive/stats/periods.js';
import type { StoreStats } from '../../archive/stats/stats.js';
import type { Calendar } from '../../nightly/calendar.js';
import type { GuestHealth } from '../../nightly/guest-health.js';
import type { SeenReport } from '../../nightly/history.js';

export interface ReportData {
  /** Its directory. */
  readonly datastore: string;
  readonly madeMillis: number;
  /** Of the program: "vmar 0.1.0". */
  readonly program: string;
  readonly guests: readonly GuestHealth[];
  readonly calendar: Calendar;
  readonly stats: StoreStats;
  /** By day. */
  readonly periods: readonly PeriodStats[];
  /** By guest, in the order of `guests`. */
  readonly changes: readonly DiskChanges[];
  /** The newest first. */
  readonly runs: readonly SeenReport[];
  /** Of these the last of each job, if it failed. Of jobs that the configuration has no more nothing is told. */
  readonly failedRuns: readonly SeenReport[];
  /** What else is damaged, as sentences. */
  readonly damage: readonly string[];
}
