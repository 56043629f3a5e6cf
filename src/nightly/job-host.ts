// SPDX-License-Identifier: MIT
// What a run of a job is handed in: where it runs, with what, and who is told.

import { resolve } from 'node:path';
import type { JobReport } from '../../formats/vmar/job-report.js';
import type { Clock } from '../base/clock.js';
import type { Datastore } from '../store/datastore.js';
import type { VmarProgram } from './child.js';
import type { DatastoreConfig, JobConfig, NightlyConfig } from './config.js';
import type { Environment } from './program.js';
import type { OnEvent } from './run-events.js';

export interface JobHost {
  readonly config: NightlyConfig;
  readonly program: VmarProgram;
  readonly hostName: string;
  /** Name and version of the program. */
  readonly writer: string;
  readonly clock: Clock;
  readonly onEvent: OnEvent;
  /** What went wrong before the run began, and does not keep it from going well. */
  readonly warnings: readonly string[];
  /** Ends the run: children are told to end, and waited for. */
  readonly signal: AbortSignal;
  /** The report for people, as the body of a mail. */
  asText(report: JobReport): string;
  /** @throws VmarError if there is none at the path. */
  openStore(path: string): Promise<Datastore>;
}

/** The datastore that a job writes to; of a copy, the one that it reads. Its reports are kept there. */
export function datastoreOf(job: JobConfig, config: NightlyConfig): DatastoreConfig {
  return datastoreNamed(job.kind === 'copy' ? job.from : job.datastore, config);
}

export function datastoreNamed(name: string, { datastores, file }: NightlyConfig): DatastoreConfig {
  const datastore = datastores.get(name);
  // The links were checked when the file was read.
  if (datastore === undefined) throw new Error(`${file} has no datastore ${name}`);
  return datastore;
}

/** What hooks and notifications find in their environment about the job. */
export function jobFacts(job: JobConfig, config: NightlyConfig): Environment {
  return {
    VMAR_JOB: job.name,
    VMAR_KIND: job.kind,
    VMAR_DATASTORE: datastoreOf(job, config).path,
    VMAR_CONFIG: resolve(config.file),
  };
}
