// SPDX-License-Identifier: MIT
// A backup from beginning to end: where it goes, what it reads, the job between them, and what is told of it.

import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { DEFAULT_CLUSTER_BYTES } from '../../formats/vmar/limits.js';
import { ArchiveSink } from '../archive/archive-sink.js';
import { openDatastoreVault } from '../archive/datastore-vault.js';
import { createMachine, type Machine } from '../archive/machine.js';
import { REAL_CLOCK } from '../base/clock.js';
import { BugError, DamageError, EXIT, type ExitStatus, InterruptedError } from '../base/errors.js';
import { BackupJob } from '../jobs/backup-job.js';
import {
  type BackupDescription,
  type DumpResult,
  type DumpSink,
  PARENT_UNUSABLE,
  type SnapshotOutcome,
} from '../plugin-api.js';
import type { Guardian } from '../qmp/guardian.js';
import type { Datastore } from '../store/datastore.js';
import { type BackupInput, type LiveFacts, openImages } from './backup-input.js';
import { tellBackup } from './backup-report.js';
import type { BackupWish } from './backup-wish.js';
import { checkBlobs, withBlobs } from './blobs.js';
import type { Context } from './context.js';
import { archivePath } from './export-wish.js';
import type { GuestWish } from './guest-wish.js';
import { openStore } from './open-store.js';
import { Progress } from './progress.js';
import { secondsSinceStart } from './seconds.js';

type Configs = BackupDescription['configs'];

/** Of an archive that no datastore decides. */
const ARCHIVE_SHAPE = { clusterSizeBytes: DEFAULT_CLUSTER_BYTES, hash: 'blake3' as const };

/** `guardian`: for a guest that runs; ended by the caller. */
export async function runBackup(
  context: Context,
  wish: BackupWish,
  configs: Configs,
  guardian?: Guardian,
): Promise<ExitStatus> {
  const { minFreeBytes } = wish;
  const store = wish.target.kind === 'datastore' ? await openStore(context, { minFreeBytes }) : undefined;
  const { hash, clusterSizeBytes } = store?.superblock ?? ARCHIVE_SHAPE;
  const { level, workers } = wish;
  const machine = createMachine({ hash, clusterSizeBytes, level, ...(workers === undefined ? {} : { workers }) });
  machine.executor.warmUp();
  try {
    const stop = new AbortController();
    // Each disk listens; Node would take more than ten for a leak, and say so.
    setMaxListeners(0, stop.signal);
    const atHand = { store, machine, clusterSizeBytes, guardian, signal: stop.signal };
    const work = async (): Promise<Backup> => {
      await checkBlobs(wish.blobs);
      if (wish.live === undefined) {
        const openInput = () => openImages(context, wish, { store, executor: machine.executor }, stop.signal);
        return await backUp(context, wish, configs, await openSink(wish, atHand), openInput, stop.signal);
      }
      try {
        return await backUpGuest(context, wish, configs, wish.live, atHand, undefined);
      } catch (error) {
        if (!(error instanceof DamageError) || store === undefined || wish.live.paranoid) throw error;
        const where = error.object === undefined ? '' : ` (${error.object})`;
        context.log.warn(`the last backup is damaged: ${error.message}${where}; all is read instead`);
        return await backUpGuest(context, wish, configs, wish.live, atHand, error.message);
      }
    };
    const result = await context.interrupts.during(() => stop.abort(), work);
    tellBackup(context, wish, result, secondsSinceStart());
    return EXIT.done;
  } finally {
    await machine.close();
    await store?.close();
  }
}

interface AtHand {
  readonly store: Datastore | undefined;
  readonly machine: Machine;
  readonly clusterSizeBytes: number;
  readonly guardian: Guardian | undefined;
  readonly signal: AbortSignal;
}

/** `distrust`: why nothing may rest on the guest's latest backup. */
async function backUpGuest(
  context: Context,
  wish: BackupWish,
  configs: Configs,
  live: GuestWish,
  atHand: AtHand,
  distrust: string | undefined,
): Promise<Backup> {
  const { GuestToBe, newGuardian } = await import('./guest-input.js');
  const { store, clusterSizeBytes, signal } = atHand;
  // One that was used is of no use any more.
  const guardian = distrust === undefined ? atHand.guardian : undefined;
  const own = guardian ?? newGuardian();
  try {
    const guest = new GuestToBe(context, wish, live, own);
    await guest.untilFree(signal);
    const sink = await openSink(wish, atHand);
    const openInput = () => guest.open({ store, clusterSizeBytes, distrust }, signal);
    return await backUp(context, wish, configs, sink, openInput, signal);
  } finally {
    own.end();
  }
}

async function openSink(wish: BackupWish, { store, machine, signal }: AtHand): Promise<DumpSink> {
  const { guest, target, waitSeconds, timeSeconds } = wish;
  if (store !== undefined) {
    return new ArchiveSink(await openDatastoreVault(store, guest, { waitSeconds, signal }), machine);
  }
  if (target.kind === 'datastore') throw new BugError('a backup into a datastore without one');
  const { openArchiveSink } = await import('./archive-sink-of.js');
  return await openArchiveSink({
    format: target.format,
    path: archivePath(target, guest.guestId, timeSeconds),
    machine: () => ({ machine, clusterSizeBytes: ARCHIVE_SHAPE.clusterSizeBytes }),
    uuid: randomBytes(16),
    isOrdered: wish.live === undefined,
  });
}

/** Of a backup that came off. */
export interface Backup extends DumpResult {
  readonly described: BackupInput['description']['disks'];
  readonly live?: LiveFacts;
}

/** Takes the sink: it is finished or aborted. */
async function backUp(
  context: Context,
  wish: BackupWish,
  configs: Configs,
  sink: DumpSink,
  openInput: () => Promise<BackupInput>,
  signal: AbortSignal,
): Promise<Backup> {
  const progress = new Progress(context.output, 'backing up');
  let input: BackupInput | undefined;
  let outcome: SnapshotOutcome = 'failed';
  let started = false;
  try {
    input = await openInput();
    input = await withBlobs(context, input, wish.blobs, wish.forceShare || wish.live !== undefined);
    if (signal.aborted) throw new InterruptedError();
    input.startsInto?.(sink);
    const { guest, timeSeconds, isTimeOfClock, labels } = wish;
    const job = new BackupJob({
      ...{ disks: input.disks, sink, clock: REAL_CLOCK, speedBytesPerSecond: wish.speedBytesPerSecond },
      description: {
        ...{ namespace: guest.namespace, guestId: guest.guestId, timeSeconds, isTimeOfClock, labels },
        ...input.description,
        configs: joined(configs, input.configs ?? []),
      },
      onProgress: ({ doneBytes }) => progress.setDone(doneBytes),
    });
    progress.addTotal(job.progress().totalBytes);
    signal.addEventListener('abort', () => job.cancel(), { once: true });
    started = true;
    const result = await job.run();
    outcome = 'done';
    input.check?.();
    const { description, live } = input;
    const described = description.disks.map((disk, at) =>
      disk.restsOnParent === true && !sink.hasParent(at) ? { ...disk, fullReason: PARENT_UNUSABLE } : disk,
    );
    return { ...result, described, ...(live === undefined ? {} : { live }) };
  } catch (error) {
    // What a bitmap rests on is damaged: the next backup must not rest on it again.
    if (error instanceof DamageError) outcome = 'spoilt';
    // A job that ran has aborted it.
    if (!started) await sink.abort();
    throw error;
  } finally {
    progress.end();
    await input?.close(outcome).catch((error: unknown) => tellLeftovers(context, error));
  }
}

/** What the user gave goes before what was found. */
function joined(given: Configs, found: Configs): Configs {
  return [...given, ...found.filter(({ name }) => !given.some((one) => one.name === name))];
}

/** The backup is made, or has failed for a reason of its own. */
function tellLeftovers({ log }: Context, error: unknown): void {
  const why = error instanceof Error ? error.message : String(error);
  log.warn(`something may be left in the guest; the next backup takes it away: ${why}`);
}
