// SPDX-License-Identifier: MIT
// What a live restore reads from: the backup that was named; or, where it goes on, the one that it was begun with, which
// may not be the newest any more; or nothing, where all was restored already.

import { availableParallelism } from 'node:os';
import { type FoundState, findState, type StateWish } from '../live/found-state.js';
import type { CompleteAssignment, LiveSource } from '../live/live-restore.js';
import { createExecutor, type Executor } from '../pipeline/executor.js';
import { parseBackupId, resolveBackup } from '../store/backup-id.js';
import type { Context } from './context.js';
import { type LiveWish, planLive, stateWishes } from './live-wish.js';
import { type OpenBackup, openNamedBackup } from './open-named-backup.js';
import { isArchiveName } from './parse-backup-name.js';

export interface OpenSource {
  readonly source: LiveSource;
  /** The backup is needed no more: a session would keep its chunks from being collected. May be called twice. */
  release(): Promise<void>;
  /** Everything. */
  close(): Promise<void>;
}

/** The guest's requests are answered by the main thread; what fills its disk behind its back takes what is left. */
const STREAM_NICENESS = 10;

export async function openLiveSource(context: Context, name: string, wish: LiveWish): Promise<OpenSource> {
  const wishes = await stateWishes(wish);
  const states = await Promise.all(wishes.map(findState));
  const complete = allComplete(name, wishes, states);
  if (complete !== undefined) {
    const nothing = async (): Promise<void> => undefined;
    return { source: { kind: 'complete', assignments: complete }, release: nothing, close: nothing };
  }
  const { backup, close: release } = await openNamedBackup(context, begunWith(name, states) ?? name);
  try {
    const assignments = planLive(backup.manifest, wish);
    const executor = createLiveExecutor(backup, wish);
    const close = async (): Promise<void> => {
      await executor.close();
      await release();
    };
    return { source: { kind: 'backup', backup, executor, assignments }, release, close };
  } catch (error) {
    await release();
    throw error;
  }
}

function createLiveExecutor({ manifest: { hash, disks } }: OpenBackup, { workers }: LiveWish): Executor {
  return createExecutor({
    workers: workers ?? availableParallelism(),
    hash,
    level: 1,
    clusterSizeBytes: disks[0]?.clusterSizeBytes ?? 0,
    pools: [],
    niceness: STREAM_NICENESS,
  });
}

function allComplete(
  name: string,
  wishes: readonly StateWish[],
  states: readonly (FoundState | undefined)[],
): CompleteAssignment[] | undefined {
  const complete = wishes.flatMap((wish, index) => {
    const state = states[index];
    if (!isCompleteOf(name, wish, state)) return [];
    return [{ ...wish, disk: state.backup.disk, backup: state.backup }];
  });
  return complete.length === wishes.length ? complete : undefined;
}

/** A state that says that the target holds all of what the name and the wish mean. */
export function isCompleteOf(name: string, wish: StateWish, state: FoundState | undefined): state is FoundState {
  return state?.isComplete === true && isMeant(name, state) && isDisk(wish.disk, state);
}

/** The one backup that all state files there are speak of, if the name can mean it. */
function begunWith(name: string, states: readonly (FoundState | undefined)[]): string | undefined {
  const found = states.filter((state) => state !== undefined);
  const first = found[0]?.backup;
  if (first === undefined || !found.every((state) => state.backup.digest === first.digest && isMeant(name, state))) {
    return undefined;
  }
  return first.name;
}

/** By the name alone: `100` means any backup of guest 100, since it did when the restore was begun. */
function isMeant(name: string, { backup }: FoundState): boolean {
  if (name === backup.name) return true;
  const ref = parseBackupId(backup.name);
  if (isArchiveName(name) || ref === undefined) return false;
  try {
    return resolveBackup(name, [ref]) === ref;
  } catch {
    return false;
  }
}

function isDisk(name: string, { backup: { disk } }: FoundState): boolean {
  return disk === name || disk.endsWith(`-${name}`);
}
