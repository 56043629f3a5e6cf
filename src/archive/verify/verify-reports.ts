// SPDX-License-Identifier: MIT
// Verifies the reports of nightly jobs. No backup needs them, but who reads them believes them.

import { NotFoundError, VmarError } from '../../base/errors.js';
import { listReports, readReport } from '../../store/job-reports.js';
import type { DamageList } from './damage.js';
import { wholeFile } from './damaged-range.js';

/** Adds those that are damaged, and gives the errors of those that cannot be judged, by the number of their record. */
export async function verifyReports(root: string, damage: DamageList): Promise<ReadonlyMap<number, VmarError>> {
  const errors = new Map<number, VmarError>();
  for (const file of await listReports(root)) {
    try {
      await readReport(file);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // The oldest go while new ones come.
      if (error instanceof NotFoundError) continue;
      const problem = error.message;
      errors.set(damage.add({ file, ...wholeFile(file), kind: 'job-report', problem }), error);
    }
  }
  return errors;
}
