// SPDX-License-Identifier: MIT
// What was run, and what came of it: the reports of jobs that a datastore keeps, also of runs that are under way, and of
// those that were killed.

import {
  isUnfinished,
  type JobGuest,
  type JobOutcome,
  type JobReport,
  type JobStep,
} from '../../formats/vmar/job-report.js';
import { NotFoundError, VmarError } from '../base/errors.js';
import type { Datastore } from '../store/datastore.js';
import { listReports, readReport } from '../store/job-reports.js';
import { isRunAlive } from '../store/run-locks.js';

export type { JobCounts, JobGuest, JobOutcome, JobReport, JobStep } from '../../formats/vmar/job-report.js';

/** `waiting`: its turn has not come yet. */
export type SeenOutcome = JobOutcome | 'running' | 'waiting';

type Seen<Part> = Omit<Part, 'outcome'> & { readonly outcome: SeenOutcome };
export type SeenGuest = Seen<JobGuest>;
export type SeenStep = Seen<JobStep>;

/** A report as it is to be read now. Of a run that was killed the outcome is `failed`, with the code `run-killed`. */
export interface SeenReport extends Seen<Omit<JobReport, 'guests' | 'steps'>> {
  readonly guests: readonly SeenGuest[];
  readonly steps: readonly SeenStep[];
}

export function isUnderWay(outcome: SeenOutcome): boolean {
  return outcome === 'running' || outcome === 'waiting';
}

/** How long it took, or has taken until now. */
export function secondsOf({
  outcome,
  startedMillis,
  finishedMillis,
}: Pick<SeenReport, 'outcome' | 'startedMillis' | 'finishedMillis'>): number {
  const endMillis = outcome === 'running' ? Date.now() : finishedMillis;
  // A clock may have been set back meanwhile.
  return Math.max(0, endMillis - startedMillis) / 1000;
}

export interface DamagedReport {
  readonly path: string;
  readonly error: VmarError;
}

type OnDamaged = (damaged: DamagedReport) => void;

/**
 * The reports of a datastore, by when the runs began, the newest first. Those that cannot be read are left out, and told
 * to `onDamaged`.
 */
export async function* readHistory(
  { root }: Pick<Datastore, 'root'>,
  onDamaged: OnDamaged = () => undefined,
): AsyncIterable<SeenReport> {
  for await (const { report, isAlive } of readRuns(root, onDamaged)) yield isAlive ? underWay(report) : report;
}

/** The report of the last run of this job on this host, if that was killed. */
export async function killedBefore(
  { root }: Pick<Datastore, 'root'>,
  { job, host }: Pick<JobReport, 'job' | 'host'>,
): Promise<JobReport | undefined> {
  for await (const { report, isAlive } of readRuns(root, () => undefined)) {
    if (report.job !== job || report.host !== host) continue;
    return isUnfinished(report) && !isAlive ? report : undefined;
  }
  return undefined;
}

interface Run {
  readonly report: JobReport;
  readonly isAlive: boolean;
}

async function* readRuns(root: string, onDamaged: OnDamaged): AsyncIterable<Run> {
  for (const path of (await listReports(root)).reverse()) {
    try {
      yield await readRun(root, path);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // A run that ended meanwhile may have removed it.
      if (!(error instanceof NotFoundError)) onDamaged({ path, error });
    }
  }
}

async function readRun(root: string, path: string): Promise<Run> {
  const report = await readReport(path);
  if (!isUnfinished(report)) return { report, isAlive: false };
  if (isRunAlive(root, path)) return { report, isAlive: true };
  // It may have ended since it was read: first comes the report of that, then the lock goes.
  return { report: await readReport(path), isAlive: false };
}

function underWay(report: JobReport): SeenReport {
  const { guests, steps } = report;
  return { ...stillRunning(report), guests: guests.map(stillRunning), steps: steps.map(stillRunning) };
}

const UNTOLD = { errorCode: '', error: '' };

function stillRunning<Part extends Pick<JobReport, 'outcome' | 'errorCode'>>(part: Part): Seen<Part> {
  if (!isUnfinished(part)) return part;
  const isWaiting = 'attempts' in part && part.attempts === 0;
  return { ...part, ...UNTOLD, outcome: isWaiting ? 'waiting' : 'running' };
}
