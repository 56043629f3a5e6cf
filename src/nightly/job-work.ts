// SPDX-License-Identifier: MIT
// What jobs of each kind do, between their hooks.

import type { JobGuest, JobStep } from '../../formats/vmar/job-report.js';
import { NotFoundError, VmarError } from '../base/errors.js';
import { formatGuest, type GuestRef, parseGuest } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import { listManifestNames } from '../store/manifest-tree.js';
import type { BackupJobConfig, GcOptions, JobConfig, PruneJobConfig } from './config.js';
import { type Ending, endingOf } from './endings.js';
import { choosesGuest } from './guest-patterns.js';
import { GuestRuns, type GuestWork } from './guest-runs.js';
import { findJobGuests } from './guests.js';
import type { Hooks } from './hooks.js';
import { datastoreNamed, datastoreOf, type JobHost, jobFacts } from './job-host.js';
import { checkRoom, openJobStore } from './job-store.js';
import type { OnEvent } from './run-events.js';
import { childStep, pruneStep, runStep, type StepsOptions } from './steps.js';
import { backupWords, copyWords, drillWords, gcWords, verifyWords } from './words.js';

/** What comes of it, as far as it came; filled while the work goes on. */
export interface WorkDone {
  guests: readonly JobGuest[];
  readonly steps: JobStep[];
}

export interface WorkOptions {
  readonly host: JobHost;
  readonly hooks: Hooks;
  readonly store: Datastore;
  readonly onEvent: OnEvent;
  /** Said, and kept in the report. */
  readonly onWarning: (text: string, guest?: string) => void;
  /** What it resolves for goes before a step. Never rejects. */
  readonly onBeforeStep: () => Promise<void>;
}

/** @throws VmarError where it could not be begun */
export async function doWork(job: JobConfig, done: WorkDone, options: WorkOptions): Promise<void> {
  const { host, store, onEvent, onWarning, onBeforeStep } = options;
  const { path } = datastoreOf(job, host.config);
  const steps: StepsOptions = { job, host, onEvent, onWarning, onBeforeStep };
  switch (job.kind) {
    case 'backup':
      return await backUp(job, done, options, steps);
    case 'verify':
      done.steps.push(await runStep(steps, 'verify', () => childStep(steps, 'verify', path, verifyWords(job))));
      return;
    case 'prune':
      return await prune(job, done, options, steps);
    case 'gc':
      return await collect(job, done, path, steps);
    case 'copy': {
      const to = datastoreNamed(job.to, host.config);
      await (await openJobStore(to, host.openStore)).close();
      const isAll = job.guests === undefined || job.guests.includes('*');
      const { guests, missing } = isAll ? { guests: [], missing: [] } : await chosenGuests(store, job.guests);
      const minFreeBytes = Math.max(job.minFreeBytes, to.minFreeBytes);
      const words = copyWords({ ...job, minFreeBytes }, to.path, guests.map(formatGuest));
      done.steps.push(await runStep(steps, 'copy', () => childStep(steps, 'copy', path, words)));
      for (const error of missing) throw error;
      return;
    }
    case 'drill': {
      const { guests, missing } = await chosenGuests(store, job.guests ?? ['*']);
      const works: GuestWork[] = [
        ...missing.map((error) => ({ guest: error.object ?? '', words: [], refusal: endingOf(error) })),
        ...guests.map(shortName).map((guest) => ({ guest, words: drillWords(job, guest) })),
      ];
      if (works.length === 0) throw new NotFoundError('no-such-guest', 'there is no backup to try', { object: path });
      await runGuests(job, works, 1, done, options);
      return;
    }
  }
}

async function backUp(job: BackupJobConfig, done: WorkDone, options: WorkOptions, steps: StepsOptions): Promise<void> {
  const { host, store } = options;
  const { guests, missing } = findJobGuests(host.config.guests.values(), job.guests);
  const leastBytes = leastFree(job, host);
  const works: GuestWork[] = [
    ...missing.map(({ name, error }) => ({ guest: name, words: [], refusal: endingOf(error) })),
    ...guests.map((guest) => ({ guest: guest.name, words: backupWords(job, guest, leastBytes) })),
  ];
  await runGuests(job, works, job.parallel, done, options);
  const { retention, gc } = job;
  if (retention !== undefined) {
    // A guest that was not backed up loses nothing either.
    const good = done.guests.filter(({ outcome }) => outcome === 'ok').flatMap(({ guest }) => parseGuest(guest) ?? []);
    if (good.length > 0) done.steps.push(await runStep(steps, 'prune', () => pruneStep(steps, store, good, retention)));
  }
  if (gc !== undefined) await collect(gc, done, datastoreOf(job, host.config).path, steps);
}

async function runGuests(
  job: JobConfig,
  works: readonly GuestWork[],
  parallel: number,
  done: WorkDone,
  { host, hooks, onEvent, onWarning }: WorkOptions,
): Promise<void> {
  const { path } = datastoreOf(job, host.config);
  const leastBytes = leastFree(job, host);
  onEvent({ event: 'guests', guests: works.map(({ guest }) => guest) });
  const runs = new GuestRuns({
    ...{ job, host, hooks, parallel, onEvent, datastorePath: path, facts: jobFacts(job, host.config) },
    before: () => attempt(() => checkRoom(path, leastBytes)),
    onWarning: (guest, text) => onWarning(text, guest),
  });
  done.guests = await runs.run(works);
}

/** What a backup must leave free; others write little. */
function leastFree(job: JobConfig, { config }: JobHost): number {
  return job.kind === 'backup' ? Math.max(job.minFreeBytes, datastoreOf(job, config).minFreeBytes) : 0;
}

async function attempt(action: () => Promise<void>): Promise<Ending | undefined> {
  try {
    await action();
    return undefined;
  } catch (error) {
    if (error instanceof VmarError) return endingOf(error);
    const text = error instanceof Error ? error.message : String(error);
    return { outcome: 'failed', errorCode: 'io-failed', error: text };
  }
}

async function prune(job: PruneJobConfig, done: WorkDone, options: WorkOptions, steps: StepsOptions): Promise<void> {
  const { store, host } = options;
  const { guests, missing } = await chosenGuests(store, job.guests ?? ['*']);
  done.steps.push(await runStep(steps, 'prune', () => pruneStep(steps, store, guests, job.retention)));
  if (job.gc !== undefined) await collect(job.gc, done, datastoreOf(job, host.config).path, steps);
  for (const error of missing) throw error;
}

async function collect(gc: GcOptions, done: WorkDone, path: string, steps: StepsOptions): Promise<void> {
  done.steps.push(await runStep(steps, 'gc', () => childStep(steps, 'gc', path, gcWords(gc))));
}

interface ChosenGuests {
  readonly guests: readonly GuestRef[];
  /** For each name or pattern that fits none: the others are not to suffer from it. */
  readonly missing: readonly NotFoundError[];
}

/** Guests that have backups in the datastore. @throws NotFoundError if none of those that are named has */
async function chosenGuests({ root }: Datastore, patterns: readonly string[]): Promise<ChosenGuests> {
  const { backups } = await listManifestNames(root);
  const all = new Map<string, GuestRef>();
  for (const { namespace, guestType, guestId } of backups) {
    all.set(shortName({ namespace, guestType, guestId }), { namespace, guestType, guestId });
  }
  const missing = patterns
    .filter((pattern) => pattern !== '*' && ![...all.keys()].some((name) => choosesGuest(pattern, name)))
    .map((pattern) => new NotFoundError('no-such-guest', 'no backup of such a guest', { object: pattern }));
  const guests = [...all]
    .filter(([name]) => patterns.some((pattern) => choosesGuest(pattern, name)))
    .map(([, guest]) => guest);
  const [first] = missing;
  if (guests.length === 0 && first !== undefined) throw first;
  return { guests, missing };
}

/** As the configuration has it: `100`, or with a namespace `ns/vm/100`. */
function shortName(guest: GuestRef): string {
  return guest.namespace === '' ? guest.guestId : formatGuest(guest);
}
