// SPDX-License-Identifier: MIT
// Whether each guest is as well protected as was promised: its last good backup, when the next is due, what verify knows.
//
// A guest is overdue if its last good backup is older than is allowed, or if a run that its schedule names after that
// backup should be done by now. One that a job is for, and that has no good backup, is overdue.

import type { BackupHealth } from '../store/backup-health.js';
import type { GuestStatus } from '../store/guest-status.js';
import type { BackupJobConfig } from './config.js';
import type { Expectations } from './expectations.js';
import { nextRun, type Schedule } from './schedule.js';

/** How long after the time of its schedule a backup is missed; where runs are closer, as long as lies between them. */
export const GRACE_MILLIS = 6 * 3600 * 1000;

export type Overdue =
  /** It has no good backup, or nobody can tell how old that is. */
  | { readonly why: 'none' }
  /** Its last good backup is older than was asked for. */
  | { readonly why: 'too-old'; readonly mostMillis: number }
  /** A job should have made one by now, which was due then. */
  | { readonly why: 'missed'; readonly job: string; readonly dueMillis: number };

export interface GuestHealth extends GuestStatus {
  /** Names of the backup jobs that it is in. */
  readonly jobs: readonly string[];
  readonly schedules: readonly Schedule[];
  /** When the first of these runs next. */
  readonly nextRunMillis: number | undefined;
  readonly overdue: Overdue | undefined;
  /** Since when all of `last` is known to be whole; undefined if it never was verified. */
  readonly verifiedMillis: number | undefined;
}

export interface HealthOptions {
  readonly nowMillis: number;
  readonly expectations: Expectations;
  readonly verified: Pick<BackupHealth, 'lastVerifiedMillis'>;
  /** Overrides nothing: what is older is overdue, whatever the schedule. */
  readonly mostAgeSeconds?: number;
}

export function judgeGuest(status: GuestStatus, options: HealthOptions): GuestHealth {
  const { nowMillis, expectations, verified } = options;
  const jobs = expectations.jobsOf(status.guest);
  const schedules = jobs.flatMap(({ schedule }) => schedule ?? []);
  const next = Math.min(...schedules.map((schedule) => nextRun(schedule, nowMillis)));
  return {
    ...status,
    jobs: jobs.map(({ name }) => name),
    schedules,
    nextRunMillis: Number.isFinite(next) ? next : undefined,
    overdue: overdueOf(status, jobs, options),
    verifiedMillis: status.last === undefined ? undefined : verified.lastVerifiedMillis(status.last),
  };
}

/** Where nobody can tell how old it is, somebody should look. */
function overdueOf(
  { last, ageSeconds }: GuestStatus,
  jobs: readonly BackupJobConfig[],
  { nowMillis, mostAgeSeconds }: HealthOptions,
): Overdue | undefined {
  const isWanted = mostAgeSeconds !== undefined || jobs.some((job) => job.schedule ?? job.maxAgeMillis !== undefined);
  if (last === undefined || ageSeconds === undefined) return isWanted ? { why: 'none' } : undefined;
  const ageMillis = ageSeconds * 1000;
  const limits = [
    mostAgeSeconds === undefined ? undefined : mostAgeSeconds * 1000,
    ...jobs.map((job) => job.maxAgeMillis),
  ];
  const mostMillis = Math.min(...limits.flatMap((limit) => limit ?? []));
  if (ageMillis > mostMillis) return { why: 'too-old', mostMillis };
  const lastMillis = last.ref.timeSeconds * 1000;
  for (const { name, schedule, maxAgeMillis } of jobs) {
    if (schedule === undefined || maxAgeMillis !== undefined) continue;
    const dueMillis = nextRun(schedule, lastMillis);
    if (dueMillis + graceMillis(schedule, dueMillis) < nowMillis) return { why: 'missed', job: name, dueMillis };
  }
  return undefined;
}

/** How long after a run of a schedule its backup is missed. */
export function graceMillis(schedule: Schedule, runMillis: number): number {
  return Math.min(GRACE_MILLIS, nextRun(schedule, runMillis) - runMillis);
}

/** Nothing about its backups needs anybody to look. */
export function isWell({ overdue, damaged, olderDamaged }: GuestHealth): boolean {
  return overdue === undefined && damaged.length === 0 && olderDamaged.length === 0;
}
