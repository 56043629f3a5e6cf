// SPDX-License-Identifier: MIT
// vmar job run

import { hostname } from 'node:os';
import { WRITER_NAME } from '../../archive/writer-name.js';
import { REAL_CLOCK } from '../../base/clock.js';
import { EXIT, type ExitStatus, FailedError, UsageError, VmarError } from '../../base/errors.js';
import type { JobConfig, LogConfig, NightlyConfig } from '../../nightly/config.js';
import type { JobReport } from '../../nightly/history.js';
import type { JobHost } from '../../nightly/job-host.js';
import { JobLog } from '../../nightly/job-log.js';
import { reportDocument } from '../../nightly/report-document.js';
import { runJob } from '../../nightly/run-job.js';
import { openDatastore } from '../../store/datastore.js';
import type { Context } from '../context.js';
import { type ConfigFlags, chooseJobs, openConfig } from '../job-config.js';
import { mailText, reportText } from '../job-report-text.js';
import { JobWatch } from '../job-watch.js';
import { secondsSinceStart } from '../seconds.js';

export interface JobRunFlags extends ConfigFlags {
  readonly all?: boolean;
  readonly log?: string;
  readonly metrics?: string;
}

export async function run(context: Context, names: readonly string[], flags: JobRunFlags): Promise<ExitStatus> {
  const config = await openConfig(context, flags);
  const jobs = chooseJobs(config, names, flags.all === true);
  const logging = openLog(parseLog(flags.log, config));
  const stop = new AbortController();
  const reports = await context.interrupts.during(
    () => stop.abort(),
    async () => {
      const done: JobReport[] = [];
      for (const job of jobs) {
        if (stop.signal.aborted) break;
        done.push(await runJob(job, hostOf(context, config, job, stop.signal, logging)));
      }
      return done;
    },
  );
  if (flags.metrics !== undefined) await tellMetrics(context, config, reports, flags.metrics);
  tell(context, reports);
  if (stop.signal.aborted) return EXIT.interrupted;
  return reports.every(({ outcome }) => outcome === 'ok') ? EXIT.done : EXIT.failed;
}

function hostOf(
  context: Context,
  config: NightlyConfig,
  { name }: JobConfig,
  signal: AbortSignal,
  { log, isWatched, warnings }: Logging,
): JobHost {
  const { cacheDirectory: cacheDir, output } = context;
  const watch = isWatched ? new JobWatch(output, name) : undefined;
  return {
    ...{ config, signal, warnings, clock: REAL_CLOCK, hostName: hostname(), writer: WRITER_NAME },
    program: {
      words: [process.execPath, ...process.execArgv, process.argv[1] ?? ''],
      env: process.env,
    },
    onEvent: (event) => {
      watch?.see(event);
      log?.write(name, event);
    },
    asText: (report) => mailText((_style, text) => text, report),
    openStore: (path) => openDatastore(path, { cacheDir, log: context.log }),
  };
}

/** As with any notification: one that fails is said, and changes nothing. */
async function tellMetrics(
  context: Context,
  config: NightlyConfig,
  reports: readonly JobReport[],
  path: string,
): Promise<void> {
  const { writeJobMetrics } = await import('../metrics/job-metrics.js');
  try {
    await writeJobMetrics(path, context, config, reports);
  } catch (error) {
    if (!(error instanceof VmarError)) throw error;
    context.log.warn(`${path}: ${error.message}`);
  }
}

interface Logging {
  readonly log?: JobLog;
  /** Whether standard error is for people. */
  readonly isWatched: boolean;
  readonly warnings: readonly string[];
}

/** No night is lost for the sake of a log: that there is none is said, and goes into the reports. */
function openLog(logging: LogConfig | undefined): Logging {
  if (logging === undefined) return { isWatched: true, warnings: [] };
  try {
    return { log: JobLog.open(logging), isWatched: logging.to.kind !== 'stderr', warnings: [] };
  } catch (error) {
    if (!(error instanceof FailedError)) throw error;
    return { isWatched: true, warnings: [`${error.object}: ${error.message}`] };
  }
}

/** `--log` goes before what the file says. */
function parseLog(flag: string | undefined, { log }: NightlyConfig): LogConfig | undefined {
  if (flag === undefined) return log;
  if (flag === '') throw new UsageError('bad-log', 'the name of a file is missing', { object: '--log' });
  const level = log?.level ?? 'info';
  return { to: flag === '-' ? { kind: 'stderr' } : { kind: 'file', path: flag }, level };
}

function tell({ output }: Context, reports: readonly JobReport[]): void {
  output.summary(
    () => ({
      ok: reports.every(({ outcome }) => outcome === 'ok'),
      jobs: reports.map(reportDocument),
      seconds: secondsSinceStart(),
    }),
    () => reports.map((report) => reportText(output.paint, report)).join('\n\n'),
  );
}
