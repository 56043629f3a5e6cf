// SPDX-License-Identifier: MIT
// What a job does for all guests together: prune, gc, verify, copy. Each is tried as often as the job says.

import type { JobStep } from '../../formats/vmar/job-report.js';
import { BugError, VmarError } from '../base/errors.js';
import { humanSize } from '../base/quantities.js';
import { formatGuest, type GuestRef } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import { pruneGuest } from '../store/prune.js';
import { localPeriodOf } from '../store/prune-periods.js';
import type { Keep } from '../store/prune-plan.js';
import { type ChildResult, isObject, type JsonObject, runChild } from './child.js';
import type { JobConfig } from './config.js';
import { type Ending, endingOf, failure, INTERRUPTED, OK, shortened } from './endings.js';
import type { JobHost } from './job-host.js';
import type { OnEvent } from './run-events.js';

export interface StepResult extends Ending {
  readonly summary: string;
  readonly isRetryable: boolean;
}

export interface StepsOptions {
  readonly job: JobConfig;
  readonly host: JobHost;
  readonly onEvent: OnEvent;
  readonly onWarning: (text: string) => void;
  readonly onBeforeStep: () => Promise<void>;
}

/** Never rejects, but for errors of the program. */
export async function runStep(
  { job, host, onEvent, onBeforeStep }: StepsOptions,
  step: string,
  action: () => Promise<StepResult>,
): Promise<JobStep> {
  const { clock, signal } = host;
  const { attempts, delayMillis } = job.retry;
  const startedMillis = clock.nowMillis();
  onEvent({ event: 'step-begin', step });
  await onBeforeStep();
  for (let attempt = 1; ; attempt++) {
    const { isRetryable, ...result } = signal.aborted
      ? { ...INTERRUPTED, summary: '', isRetryable: false }
      : await action();
    const isOver = result.outcome === 'ok' || !isRetryable || attempt >= attempts || signal.aborted;
    if (isOver) {
      const done: JobStep = { step, attempts: attempt, startedMillis, finishedMillis: clock.nowMillis(), ...result };
      onEvent({ event: 'step-end', result: done });
      return done;
    }
    onEvent({ event: 'retry', step, attempt, attempts, delaySeconds: delayMillis / 1000, error: result.error });
    await clock.sleep(delayMillis, signal).catch(() => undefined);
  }
}

const WARNING = ': warning: ';

/** A step that is a command of vmar. */
export async function childStep(
  { job, host, onEvent, onWarning }: StepsOptions,
  step: string,
  datastorePath: string,
  words: readonly string[],
): Promise<StepResult> {
  const result = await runChild({
    ...{ program: host.program, datastore: datastorePath, words, signal: host.signal },
    ...(job.timeoutMillis === undefined ? {} : { timeoutMillis: job.timeoutMillis }),
    onLine: (text) => {
      const at = text.indexOf(WARNING);
      if (at < 0) onEvent({ event: 'says', step, text });
      else onWarning(`${step}: ${text.slice(at + WARNING.length)}`);
    },
  });
  return resultOf(step, result);
}

function resultOf(step: string, result: ChildResult): StepResult {
  if (result.ok) return { ...OK, summary: summaryOf(step, result.document), isRetryable: false };
  const { code, message, outcome, document, isRetryable } = result;
  const damage = document?.damage ?? document?.damaged;
  if (Array.isArray(damage) && damage.length > 0) {
    // Reading all of it again finds the same.
    const places = damage.length === 1 ? '1 place is' : `${damage.length} places are`;
    const text = `${places} damaged: ${damageText(damage)}`;
    return { ...failure('damage', text), summary: '', isRetryable: false };
  }
  const [first, ...others] = Array.isArray(document?.failed) ? document.failed.filter(isObject) : [];
  if (first !== undefined && isObject(first.error)) {
    const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
    const text = `${String(first.backup)}: ${String(first.error.message)}${more}`;
    return { ...failure(String(first.error.code), text, outcome), summary: '', isRetryable };
  }
  return { ...failure(code, message, outcome), summary: '', isRetryable };
}

const SHOWN = 3;

function damageText(damage: readonly unknown[]): string {
  const shown = damage.slice(0, SHOWN).map((record) => {
    if (!isObject(record)) return '?';
    const backups = Array.isArray(record.backups) && record.backups.length > 0 ? ` (${record.backups.join(', ')})` : '';
    return `${String(record.kind ?? 'damage')} in ${String(record.file)}${backups}`;
  });
  return shortened(`${shown.join('; ')}${damage.length > SHOWN ? '; …' : ''}`);
}

function summaryOf(step: string, document: JsonObject): string {
  const inner = (key: string): JsonObject => {
    const value = document[key];
    return isObject(value) ? value : {};
  };
  if (step === 'gc') {
    const freed = Number(inner('deleted').bytes ?? 0) - Number(inner('written').bytes ?? 0);
    // What is rewritten now goes away with a later one.
    const change = freed >= 0 ? `${humanSize(freed)} freed` : `${humanSize(-freed)} more for now`;
    return `${counted(inner('deleted').packs, 'pack')} deleted, ${change}`;
  }
  if (step === 'verify') {
    const { packs = 0, backups = 0 } = inner('checked');
    return `${counted(packs, 'pack')} and ${counted(backups, 'backup')} checked`;
  }
  if (step === 'copy') {
    const all = Array.isArray(document.copied) ? document.copied.filter(isObject) : [];
    const copied = all.filter(({ known }) => known !== true).length;
    return `${counted(copied, 'backup')} copied, ${all.length - copied} there already`;
  }
  return '';
}

function counted(number: unknown, what: string): string {
  return `${String(number ?? 0)} ${what}${number === 1 ? '' : 's'}`;
}

/** How long a guest's lock is waited for: somebody may be forgetting a backup. */
const PRUNE_WAIT_SECONDS = 60;

/** Removes what no rule keeps, guest by guest: one that cannot be pruned keeps no other from it. */
export async function pruneStep(
  { host, onWarning }: Pick<StepsOptions, 'host' | 'onWarning'>,
  store: Datastore,
  guests: readonly GuestRef[],
  keep: Keep,
): Promise<StepResult> {
  let [removed, all] = [0, 0];
  let first: Ending | undefined;
  for (const guest of guests) {
    if (host.signal.aborted) return { ...INTERRUPTED, summary: '', isRetryable: false };
    try {
      const { backups, damaged } = await pruneGuest(store, guest, keep, {
        nowSeconds: host.clock.nowMillis() / 1000,
        periodOf: localPeriodOf,
        ...{ waitSeconds: PRUNE_WAIT_SECONDS, signal: host.signal },
      });
      all += backups.length;
      removed += backups.filter(({ decision }) => !decision.keep).length;
      for (const { path, error } of damaged) onWarning(`${path}: ${error.message}; the backup stays`);
      if (backups.some(({ decision }) => decision.why === 'newest-past')) {
        onWarning(`${formatGuest(guest)} has backups with times in the future, which count as its newest`);
      }
    } catch (error) {
      if (!(error instanceof VmarError) || error instanceof BugError) throw error;
      const ending = endingOf(error);
      first ??= { ...ending, error: `${formatGuest(guest)}: ${ending.error}` };
    }
  }
  const summary = `${removed} of ${counted(all, 'backup')} removed`;
  return { ...(first ?? OK), summary, isRetryable: first !== undefined };
}
