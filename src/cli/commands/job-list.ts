// SPDX-License-Identifier: MIT
// vmar job list

import { EXIT, type ExitStatus } from '../../base/errors.js';
import type { JobConfig, NightlyConfig } from '../../nightly/config.js';
import { isUnderWay, type SeenReport } from '../../nightly/history.js';
import { nextRun } from '../../nightly/schedule.js';
import type { Context } from '../context.js';
import { humanTime } from '../human.js';
import { type ConfigFlags, openConfig } from '../job-config.js';
import { readHistories } from '../job-stores.js';
import { renderTable } from '../table.js';

interface Listed {
  readonly job: JobConfig;
  /** Undefined: never of itself. */
  readonly nextMillis: number | undefined;
  readonly last: SeenReport | undefined;
}

/** Enough of the history to find the last run of jobs that run seldom. */
const MOST_READ = 2000;

export async function run(context: Context, _args: undefined, flags: ConfigFlags): Promise<ExitStatus> {
  const config = await openConfig(context, flags);
  const jobs = await listJobs(context, config);
  context.output.result(
    () => ({ file: config.file, jobs: jobs.map((listed) => asDocument(listed)) }),
    () => asTable(context, jobs),
  );
  return EXIT.done;
}

async function listJobs(context: Context, { jobs, ...config }: NightlyConfig): Promise<readonly Listed[]> {
  const missing = new Set(jobs.keys());
  const last = new Map<string, SeenReport>();
  const everywhere = { ...context, datastoreDirectory: undefined };
  const isNew = ({ job }: SeenReport): boolean => missing.has(job);
  for (const report of (await readHistories(everywhere, { ...config, jobs }, isNew, MOST_READ)).reports) {
    if (!last.has(report.job)) last.set(report.job, report);
  }
  return [...jobs.values()].map((job) => {
    const next = job.schedule === undefined ? Number.POSITIVE_INFINITY : nextRun(job.schedule, Date.now());
    return { job, nextMillis: Number.isFinite(next) ? next : undefined, last: last.get(job.name) };
  });
}

function asDocument({ job, nextMillis, last }: Listed) {
  return {
    job: job.name,
    kind: job.kind,
    datastore: datastoreOf(job),
    ...(job.kind === 'backup' ? { guests: job.guests.include } : {}),
    ...(job.schedule === undefined ? {} : { schedule: job.schedule.text }),
    ...(nextMillis === undefined ? {} : { next: new Date(nextMillis).toISOString() }),
    ...(last === undefined
      ? {}
      : { last: { started: new Date(last.startedMillis).toISOString(), outcome: last.outcome } }),
  };
}

function datastoreOf(job: JobConfig): string {
  return job.kind === 'copy' ? job.from : job.datastore;
}

function asTable({ output }: Context, jobs: readonly Listed[]): string {
  if (jobs.length === 0) return output.quiet ? '' : 'no jobs';
  const titles = ['job', 'kind', 'guests', 'datastore', 'schedule', 'next run', 'last run', ''];
  const rows = jobs.map(({ job, nextMillis, last }) => {
    const to = job.kind === 'copy' ? `${job.from} to ${job.to}` : job.datastore;
    const time = (millis: number): string => humanTime(Math.floor(millis / 1000));
    const row = [
      ...[job.name, job.kind, guestsOf(job), to, job.schedule?.text ?? 'by hand'],
      nextMillis === undefined ? '' : time(nextMillis),
      last === undefined ? 'never' : time(last.startedMillis),
      last?.outcome ?? '',
    ];
    const isGood = last === undefined || last.outcome === 'ok' || isUnderWay(last.outcome);
    return isGood ? row : [...row.slice(0, -1), output.paint('red', last.outcome)];
  });
  return renderTable(
    output.paint,
    titles.map((title) => ({ title })),
    rows,
  );
}

function guestsOf(job: JobConfig): string {
  if (job.kind === 'backup') {
    const { include, exclude } = job.guests;
    const all = include.map((name) => (name === '*' ? 'all' : name)).join(', ');
    return exclude.length === 0 ? all : `${all} but ${exclude.join(', ')}`;
  }
  if (job.kind === 'verify' || job.kind === 'gc') return '';
  return job.guests?.map((name) => (name === '*' ? 'all' : name)).join(', ') ?? 'all';
}
