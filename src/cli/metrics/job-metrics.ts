// SPDX-License-Identifier: MIT
// What vmar job run tells Prometheus: of every job of the configuration how it went last, those too that ran before, since
// all write the same file.

import type { JobConfig, NightlyConfig } from '../../nightly/config.js';
import { isUnderWay, type JobOutcome, type JobReport, type SeenReport, secondsOf } from '../../nightly/history.js';
import { nextRun } from '../../nightly/schedule.js';
import type { Context } from '../context.js';
import { readHistories } from '../job-stores.js';
import { type Labels, MetricsFile } from './metrics-file.js';

/** Enough of the history to find the last good run of jobs that run seldom. */
const MOST_READ = 2000;

interface LastRuns {
  readonly last: SeenReport;
  /** When the last one that went well began. */
  readonly goodMillis: number | undefined;
}

/** @param reports of what has just run, the newest last. @throws FailedError if the file cannot be written */
export async function writeJobMetrics(
  path: string,
  context: Context,
  config: NightlyConfig,
  reports: readonly JobReport[],
): Promise<void> {
  const everywhere = { ...context, datastoreDirectory: undefined };
  const known = await readHistories(everywhere, config, ({ job }) => config.jobs.has(job), MOST_READ);
  // What is under way has not run yet.
  const ended = known.reports.filter(({ outcome }) => !isUnderWay(outcome));
  const runs = lastRuns([...[...reports].reverse(), ...ended]);
  const file = new MetricsFile({});
  const ofRuns = (name: string, help: string, of: (runs: LastRuns) => number | undefined): void => {
    const samples = [...runs.values()].map((each) => ({ labels: labelsOf(each.last), value: of(each) }));
    file.gauge(`vmar_job_${name}`, help, samples);
  };
  ofRuns('last_run_timestamp_seconds', 'When the last run of a job began.', ({ last }) => last.startedMillis / 1000);
  ofRuns('last_run_duration_seconds', 'How long the last run of a job took.', ({ last }) => secondsOf(last));
  ofRuns('last_run_ok', 'Whether the last run of a job went well, 0 or 1.', ({ last }) =>
    Number(last.outcome === 'ok'),
  );
  ofRuns('last_success_timestamp_seconds', 'When the last run of a job that went well began.', ({ goodMillis }) =>
    goodMillis === undefined ? undefined : goodMillis / 1000,
  );
  ofRuns('last_run_new_bytes', 'What the last run of a job backed up that was new.', ({ last }) =>
    last.guests.reduce((sum, { newBytes }) => sum + newBytes, 0),
  );
  ofRuns('last_run_stored_bytes', 'What that takes, compressed.', ({ last }) =>
    last.guests.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
  );
  file.gauge(
    'vmar_job_last_run_guests',
    'How many guests the last run of a job had, by what became of them.',
    [...runs.values()].flatMap(({ last }) => guestSamples(last)),
  );
  file.gauge(
    'vmar_job_next_run_timestamp_seconds',
    'When a job is to run next.',
    [...config.jobs.values()].map(nextSample),
  );
  await file.write(path);
}

/** By job. The reports are ordered by time, the newest first; what has just run may be among them twice. */
function lastRuns(reports: readonly SeenReport[]): Map<string, LastRuns> {
  const runs = new Map<string, LastRuns>();
  for (const report of reports) {
    const known = runs.get(report.job);
    const goodMillis = known?.goodMillis ?? (report.outcome === 'ok' ? report.startedMillis : undefined);
    runs.set(report.job, { last: known?.last ?? report, goodMillis });
  }
  return runs;
}

function labelsOf({ job, kind }: Pick<SeenReport, 'job' | 'kind'>): Labels {
  return { job, kind };
}

const OUTCOMES: readonly JobOutcome[] = ['ok', 'failed', 'skipped', 'busy', 'interrupted'];

function guestSamples(report: SeenReport) {
  return OUTCOMES.map((outcome) => ({
    labels: { ...labelsOf(report), outcome },
    value: report.guests.filter((guest) => guest.outcome === outcome).length,
  }));
}

function nextSample(job: JobConfig) {
  const next = job.schedule === undefined ? Number.POSITIVE_INFINITY : nextRun(job.schedule, Date.now());
  return { labels: { job: job.name, kind: job.kind }, value: Number.isFinite(next) ? next / 1000 : undefined };
}
