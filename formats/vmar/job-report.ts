// SPDX-License-Identifier: MIT
// The report of one run of a nightly job: a message in an envelope.

import { isSize } from '../../src/base/checked.js';
import { UsageError } from '../../src/base/errors.js';
import { decodeEnvelope, encodeEnvelope } from './envelope.js';
import { NO_FEATURES } from './features.js';
import { type Refusal, refusalOf } from './fields.js';
import { vmar } from './generated/vmar.js';
import type { HashName } from './hash.js';
import { MAX_JOB_GUESTS, MAX_JOB_STEPS, MAX_JOB_WARNINGS } from './limits.js';
import { decodeMessage, uint64 } from './protobuf.js';

export type JobOutcome = 'ok' | 'failed' | 'skipped' | 'busy' | 'interrupted';

/** What a job, a guest's part of it and a step of it have. */
interface Ended {
  readonly outcome: JobOutcome;
  readonly startedMillis: number;
  readonly finishedMillis: number;
  /** Both "" where there was no error. */
  readonly errorCode: string;
  readonly error: string;
}

export interface JobReport extends Ended {
  readonly job: string;
  /** "backup", "verify" and so on; later versions may have more. */
  readonly kind: string;
  readonly host: string;
  readonly guests: readonly JobGuest[];
  readonly steps: readonly JobStep[];
  readonly warnings: readonly string[];
  /** Name and version of the program. */
  readonly writer: string;
}

export interface JobGuest extends Ended, JobCounts {
  readonly guest: string;
  /** Full id of the backup that was made, copied or tried; "" for none. */
  readonly backup: string;
  readonly attempts: number;
}

/** As in the manifest, of all disks together. */
export interface JobCounts {
  readonly sizeBytes: number;
  readonly readBytes: number;
  readonly zeroBytes: number;
  readonly unchangedBytes: number;
  readonly newBytes: number;
  readonly storedBytes: number;
}

export interface JobStep extends Ended {
  /** "prune", "gc", "verify", "copy"; later versions may have more. */
  readonly step: string;
  readonly attempts: number;
  /** For people: what came of it. */
  readonly summary: string;
}

/**
 * The error code of a run in a report that says nothing of its end yet, and of those of its parts that had not ended. Such a
 * report stands for the truth, should the run be killed: its outcome is `failed`.
 */
export const RUN_KILLED = 'run-killed';

/** Whether the report was written while the run was under way. */
export function isUnfinished({ errorCode }: Pick<JobReport, 'errorCode'>): boolean {
  return errorCode === RUN_KILLED;
}

const OUTCOMES: readonly JobOutcome[] = ['ok', 'failed', 'skipped', 'busy', 'interrupted'];
const COUNTS = ['sizeBytes', 'readBytes', 'zeroBytes', 'unchangedBytes', 'newBytes', 'storedBytes'] as const;
const LIMITS = { 9: MAX_JOB_GUESTS, 10: MAX_JOB_STEPS, 11: MAX_JOB_WARNINGS };

/**
 * The whole file.
 * @throws UsageError for values that no report may have
 */
export function encodeJobReport(report: JobReport, hash: HashName): Uint8Array {
  const problem = reportProblem(report);
  if (problem !== undefined) throw new UsageError('bad-report', `a job cannot be reported so: ${problem}`);
  const { guests, steps, warnings, ...own } = report;
  const message = {
    ...withNumber(own),
    guests: guests.map(withNumber),
    steps: steps.map(withNumber),
    warnings: [...warnings],
  };
  return encodeEnvelope('VMARJOBR', hash, NO_FEATURES, vmar.v1.JobReport.encode(message).finish(), 'seal');
}

function withNumber<Part extends Ended>(part: Part): Omit<Part, 'outcome'> & { readonly outcome: number } {
  return { ...part, outcome: OUTCOMES.indexOf(part.outcome) + 1 };
}

/**
 * Checks and reads the whole file.
 * @throws DamageError, or FailedError if it is of a newer version or has an unknown incompatible feature
 */
export function decodeJobReport(bytes: Uint8Array, object: string): JobReport {
  const { payload } = decodeEnvelope(bytes, 'VMARJOBR', 'seal', object);
  const refuse = refusalOf('report-damaged', { object, offsetBytes: 0 });
  const message = decodeMessage((reader) => vmar.v1.JobReport.decode(reader), payload, LIMITS, refuse);
  const { job, kind, host, warnings, writer } = message;
  const report = {
    ...{ job, kind, host, warnings, writer, ...readEnded(message, refuse) },
    guests: message.guests.map((guest) => readGuest(vmar.v1.JobGuest.create(guest), refuse)),
    steps: message.steps.map((step) => readStep(vmar.v1.JobStep.create(step), refuse)),
  };
  const problem = reportProblem(report);
  if (problem !== undefined) throw refuse(`the report is wrong: ${problem}`);
  return report;
}

type EndedMessage = Pick<vmar.v1.JobStep, 'outcome' | 'startedMillis' | 'finishedMillis' | 'errorCode' | 'error'>;

function readEnded(message: EndedMessage, refuse: Refusal): Ended {
  const outcome = OUTCOMES[message.outcome - 1];
  if (outcome === undefined) throw refuse('the outcome in the report is unknown', { found: `${message.outcome}` });
  const { errorCode, error } = message;
  const [startedMillis, finishedMillis] = [uint64(message.startedMillis), uint64(message.finishedMillis)];
  return { outcome, startedMillis, finishedMillis, errorCode, error };
}

function readGuest(message: vmar.v1.JobGuest, refuse: Refusal): JobGuest {
  const { guest, backup, attempts } = message;
  const counts = Object.fromEntries(COUNTS.map((name) => [name, uint64(message[name])]));
  return {
    guest,
    backup,
    attempts,
    ...readEnded(message, refuse),
    ...(counts as Record<(typeof COUNTS)[number], number>),
  };
}

function readStep(message: vmar.v1.JobStep, refuse: Refusal): JobStep {
  const { step, attempts, summary } = message;
  return { step, attempts, summary, ...readEnded(message, refuse) };
}

/** What is wrong with the values, or undefined. */
function reportProblem(report: JobReport): string | undefined {
  const { job, kind, guests, steps, warnings } = report;
  if (job === '' || kind === '') return 'a job without a name or kind';
  if (guests.length > MAX_JOB_GUESTS) return `${guests.length} guests`;
  if (steps.length > MAX_JOB_STEPS) return `${steps.length} steps`;
  if (warnings.length > MAX_JOB_WARNINGS) return `${warnings.length} warnings`;
  for (const { startedMillis, finishedMillis } of [report, ...guests, ...steps]) {
    if (!isSize(startedMillis) || !isSize(finishedMillis)) return 'a time past 2^53';
  }
  for (const guest of guests) {
    if (guest.guest === '') return 'a guest without a name';
    if (COUNTS.some((name) => !isSize(guest[name]))) return `a count of guest ${guest.guest} past 2^53`;
  }
  return steps.some(({ step }) => step === '') ? 'a step without a name' : undefined;
}
