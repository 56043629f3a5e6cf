// SPDX-License-Identifier: MIT
// What was run, and what came of it: the reports of jobs that a datastore keeps.

import type { JobReport } from '../../formats/vmar/job-report.js';
import { NotFoundError, VmarError } from '../base/errors.js';
import type { Datastore } from '../store/datastore.js';
import { listReports, readReport } from '../store/job-reports.js';

export type { JobCounts, JobGuest, JobOutcome, JobReport, JobStep } from '../../formats/vmar/job-report.js';

export interface DamagedReport {
  readonly path: string;
  readonly error: VmarError;
}

/**
 * The reports of a datastore, by when the runs began, the newest first. Those that cannot be read are left out, and told
 * to `onDamaged`.
 */
export async function* readHistory(
  store: Pick<Datastore, 'root'>,
  onDamaged: (damaged: DamagedReport) => void = () => undefined,
): AsyncIterable<JobReport> {
  for (const path of (await listReports(store.root)).reverse()) {
    try {
      yield await readReport(path);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // A run that ended meanwhile may have removed it.
      if (!(error instanceof NotFoundError)) onDamaged({ path, error });
    }
  }
}
