// SPDX-License-Identifier: MIT
// How pieces of a job end, as reports have it.

import type { JobCounts, JobOutcome } from '../../formats/vmar/job-report.js';
import { BusyError, InterruptedError, VmarError } from '../base/errors.js';
import { isObject, type JsonObject } from './child.js';

export interface Ending {
  readonly outcome: JobOutcome;
  readonly errorCode: string;
  readonly error: string;
}

export const OK: Ending = { outcome: 'ok', errorCode: '', error: '' };
export const INTERRUPTED: Ending = { outcome: 'interrupted', errorCode: 'interrupted', error: 'interrupted' };
export const NO_COUNTS: JobCounts = {
  ...{ sizeBytes: 0, readBytes: 0, zeroBytes: 0, unchangedBytes: 0, newBytes: 0, storedBytes: 0 },
};

const MOST_TEXT = 600;

/** Texts of reports are short: thousands of them fit into one. */
export function shortened(text: string): string {
  return text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}…` : text;
}

export function failure(errorCode: string, error: string, outcome: JobOutcome = 'failed'): Ending {
  return { outcome, errorCode, error: shortened(error) };
}

/** @throws what is no error of ours */
export function endingOf(error: unknown): Ending {
  if (error instanceof InterruptedError) return INTERRUPTED;
  if (!(error instanceof VmarError)) throw error;
  const { object, message, expected, found, code } = error;
  const facts = [expected === undefined ? '' : `expected ${expected}`, found === undefined ? '' : `found ${found}`];
  const known = facts.filter((fact) => fact !== '').join(', ');
  const text = `${object === undefined ? '' : `${object}: `}${message}${known === '' ? '' : ` (${known})`}`;
  return failure(code, text, error instanceof BusyError ? 'busy' : 'failed');
}

const FIELDS = {
  sizeBytes: 'size',
  readBytes: 'read',
  zeroBytes: 'zero',
  unchangedBytes: 'unchanged',
  newBytes: 'new',
  storedBytes: 'stored',
} as const;

/** Of all disks of the document of a backup. */
export function countsOf(document: JsonObject): JobCounts {
  const disks = Array.isArray(document.disks) ? document.disks.filter(isObject) : [];
  const sums = Object.entries(FIELDS).map(([name, field]) => {
    return [name, disks.reduce((sum, disk) => sum + (typeof disk[field] === 'number' ? disk[field] : 0), 0)];
  });
  return { ...NO_COUNTS, ...Object.fromEntries(sums) };
}
