// SPDX-License-Identifier: MIT
// vmar gc, from the first look to the last unlink.
//
// Guarantees (docs/ORDERING.md, "Deleting packs"): nothing is deleted that a manifest or a session that lives can reach;
// a pack is condemned durably before it is deleted, and condemned only when all that is needed of it was read from other
// packs; nobody waits for gc. It may be killed at any step: what is half done is gone on with, or done again.

import { BusyError, InterruptedError } from '../../base/errors.js';
import { readDamage } from '../../store/damage-list.js';
import type { Datastore } from '../../store/datastore.js';
import { systemCode } from '../../store/fs.js';
import { Fossils, isNoRoom } from '../../store/gc/fossils.js';
import { maintenanceLockPath, type PackId } from '../../store/layout.js';
import { formatHolder, readHolder } from '../../store/lock-holder.js';
import { type Lock, tryLock } from '../../store/locks.js';
import {
  CANNOT_WRITE,
  describeSession,
  type LivingSession,
  oldestSessionMillis,
  type Session,
} from '../../store/session.js';
import { Execution, type ExecutionOptions, type Tally } from './execution.js';
import type { GcPack, UnreadablePack } from './gc-packs.js';
import { isDead, type Plan, type PlannedPack, planCollection } from './plan.js';
import { Survey } from './survey.js';

export type { Tally } from './execution.js';
export type { UnreadablePack } from './gc-packs.js';

export interface GcOptions extends ExecutionOptions {
  /** Which part of what is kept may be unused, 0 to 1. */
  readonly mostUnused: number;
  readonly isDryRun: boolean;
}

export interface PlannedStep {
  readonly pack: PackId;
  /** 'fossil': an earlier run condemned it. */
  readonly fate: PlannedPack['fate'] | 'fossil';
  readonly fileBytes: number;
  readonly unusedBytes: number;
}

export interface GcReport {
  /** False for a dry run in a datastore that cannot be written to: nobody knew of it, and others may have changed things. */
  readonly isAnnounced: boolean;
  readonly backups: number;
  /** As they were found. */
  readonly packs: Tally;
  readonly liveChunks: number;
  /** Stored bytes that are needed. */
  readonly liveBytes: number;
  /** Chunks that backups need and no pack that can be read has. */
  readonly missingChunks: number;
  /** What is to be done; unless it was a dry run, it was tried. */
  readonly plan: readonly PlannedStep[];
  /** Packs that are gone now, rewritten ones too. */
  readonly deleted: Tally;
  readonly rewritten: Tally;
  readonly written: Tally;
  /** Condemned packs that turned out to be needed. */
  readonly reprieved: Tally;
  /** Condemned packs that sessions may rest on still. */
  readonly waiting: Tally & { readonly sessions: number; readonly for: readonly LivingSession[] };
  readonly damaged: readonly UnreadablePack[];
}

/** Packs made in the lifetime of a session may be about to be named; but some sessions live for months. */
const LONGEST_BACKUP_MILLIS = 3 * 24 * 3600 * 1000;

/**
 * Collects what no backup needs.
 * @throws BusyError if another gc or repair is at work, DamageError if a manifest or a map cannot be read: then nothing
 * was deleted.
 */
export async function collectGarbage(store: Datastore, options: GcOptions): Promise<GcReport> {
  store.checkWritable();
  const lock = await lockMaintenance(store, options.isDryRun);
  if (lock === undefined) {
    const holder = readHolder(maintenanceLockPath(store.root));
    throw new BusyError('gc-busy', 'another vmar is collecting garbage or repairing', {
      object: store.root,
      ...(holder === undefined ? {} : { found: formatHolder(holder) }),
      advice: 'Run it again when that has ended.',
    });
  }
  try {
    const session = options.isDryRun ? await store.beginSession('read') : await beginSession(store);
    const isAnnounced = lock !== 'none' && session.isAnnounced;
    return { ...(await collect(store, session, options)), isAnnounced };
  } catch (error) {
    throw options.signal?.aborted === true ? new InterruptedError() : error;
  } finally {
    if (lock !== 'none') await lock.release();
  }
}

/** Undefined: somebody has it; 'none': nothing can be written, which a dry run can do without. */
async function lockMaintenance({ fs, root }: Datastore, isDryRun: boolean): Promise<Lock | undefined | 'none'> {
  try {
    return await tryLock(fs, maintenanceLockPath(root), 'exclusive', 'gc');
  } catch (error) {
    if (isDryRun && CANNOT_WRITE.has(systemCode(error))) return 'none';
    throw error;
  }
}

/** A full disk may leave no room for a directory: then it begins as one that only reads. */
async function beginSession(store: Datastore): Promise<Session> {
  try {
    return await store.beginSession('maintenance');
  } catch (error) {
    if (!isNoRoom(error)) throw error;
    return await store.beginSession('read');
  }
}

/** Ends the session. */
async function collect(store: Datastore, session: Session, options: GcOptions): Promise<Omit<GcReport, 'isAnnounced'>> {
  const survey = new Survey(store, options, await readDamage(store.root, store.log));
  let execution: Execution | undefined;
  try {
    const fossils = await Fossils.open(store, session);
    // Before the manifests are listed: who has ended by now has committed what it was to commit.
    const ripe = await fossils.ripe();
    const untilMillis = await youngSince(store, session);
    await survey.make(fossils.condemned);
    const found = tally(survey.packs.list);
    const plan = planCollection(survey.sound, { mostUnused: options.mostUnused, untilMillis });
    const facts = { ...seen(survey, found), plan: stepsOf(survey, plan) };
    execution = new Execution(store, session, fossils, survey, options);
    if (!options.isDryRun) await execution.run(plan, ripe);
    const { deleted, rewritten, written, reprieved } = execution;
    const waiting = [...fossils.condemned].flatMap((id) => survey.packs.get(id) ?? []);
    return {
      ...facts,
      ...{ deleted, rewritten, written, reprieved },
      waiting: waitingFor(store.root, waiting, fossils.awaited),
      damaged: [...survey.packs.unreadable.values()],
    };
  } finally {
    survey.packs.closeAll();
    if (execution === undefined) await session.end();
    else await execution.end();
  }
}

function waitingFor(root: string, packs: readonly GcPack[], awaited: ReadonlySet<string>): GcReport['waiting'] {
  const sessions = packs.length === 0 ? [] : [...awaited].map((id) => describeSession(root, id));
  return { ...tally(packs), sessions: sessions.length, for: sessions };
}

async function youngSince(store: Datastore, session: Session): Promise<number> {
  const oldest = await oldestSessionMillis(store.root, session.id);
  return oldest === undefined ? Number.POSITIVE_INFINITY : Math.max(oldest, Date.now() - LONGEST_BACKUP_MILLIS);
}

function seen(survey: Survey, packs: Tally) {
  const liveBytes = survey.sound.reduce((sum, pack) => sum + pack.liveBytes, 0);
  const { backups, missingChunks, marks } = survey;
  return { backups, packs, liveChunks: marks.live.count, liveBytes: Math.round(liveBytes), missingChunks };
}

function stepsOf(survey: Survey, plan: Plan): PlannedStep[] {
  const fossils = survey.sound.filter((pack) => pack.isCondemned && isDead(pack));
  return [
    ...fossils.map((pack) => stepOf(pack, 'fossil')),
    ...plan.dead.map((pack) => stepOf(pack, 'dead')),
    ...plan.rewrite.map(({ pack, fate }) => stepOf(pack, fate)),
  ];
}

function stepOf(pack: GcPack, fate: PlannedStep['fate']): PlannedStep {
  const unusedBytes = Math.round(Math.max(0, pack.storedBytes - pack.liveBytes));
  return { pack: pack.id, fate, fileBytes: pack.fileBytes, unusedBytes };
}

function tally(packs: readonly GcPack[]): Tally {
  return { packs: packs.length, bytes: packs.reduce((sum, pack) => sum + pack.fileBytes, 0) };
}
