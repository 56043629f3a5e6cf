// SPDX-License-Identifier: MIT
// Target and state file of one disk, opened together: begun anew, gone on with, or found complete.

import { DirtyBitmap } from '../block/dirty-bitmap.js';
import { checkBackupIdentity, checkTargetIdentity } from './identity-check.js';
import { Journal, type JournalOptions } from './journal.js';
import type { JournalIdentity } from './journal-header.js';
import { type LoadedJournal, loadJournal } from './journal-load.js';
import { type LiveTarget, openLiveTarget, targetKind } from './live-target.js';
import { RecordedTarget } from './recorded-target.js';
import type { StateFile, StatePlace } from './state-file.js';
import { defaultStatePath, StatePath } from './state-place.js';

/** A granule is what a guest writes at least, so that small writes need not read from the backup. */
const GRANULARITY_BYTES = 4096;

export interface LiveStateWish {
  readonly targetPath: string;
  /** Undefined: beside a file, in /var/lib/vmar/restore for a device. */
  readonly statePath: string | undefined;
  readonly overwrite: boolean;
  readonly targetIsZero: boolean;
  readonly bootId: string;
  readonly backup: JournalIdentity['backup'];
  readonly warn: (message: string) => void;
}

/** A target that is to be filled, or is full. */
export interface LiveState {
  readonly target: RecordedTarget;
  /** Absolute. */
  readonly targetPath: string;
  readonly isDevice: boolean;
  readonly statePath: string;
  readonly excessBytes: number;
  /** Something was restored before. */
  readonly isResumed: boolean;
  /** Undefined: the target holds all. */
  readonly filling:
    | { readonly journal: Journal; readonly held: DirtyBitmap; readonly targetIsZero: boolean }
    | undefined;
  /** Gives up the target's image locks, so that another program may take them; and takes them again. */
  unlock(): void;
  /** @throws BusyError when another program has them */
  lock(): void;
  /** Lets others rely on the target's length. */
  shareLength(): void;
  /** Gives up file, target and their locks; the state stays unless it is to be removed. */
  close(options: { removeState: boolean }): Promise<void>;
  /** As if it had never been begun: what was made for it is removed. For what was resumed the same as `close`. */
  abandon(): Promise<void>;
}

/** Where the state of a restore to the target lies, if no other place was named. */
export async function statePathOf(targetPath: string, statePath: string | undefined): Promise<string> {
  if (statePath !== undefined) return statePath;
  return defaultStatePath(targetPath, (await targetKind(targetPath)) === 'device' ? 'device' : 'file');
}

/** @throws FailedError for a state of another restore; DamageError for a damaged one; BusyError if others use either. */
export async function openLiveState(wish: LiveStateWish): Promise<LiveState> {
  const place = new StatePath(await statePathOf(wish.targetPath, wish.statePath));
  const file = await place.open();
  let target: LiveTarget | undefined;
  try {
    const loaded = file && (await loadJournal(file, place.path, wish.bootId));
    if (loaded !== undefined) checkBackupIdentity(loaded.header.backup, wish.backup, place.path);
    const { targetPath, backup } = wish;
    target = await openLiveTarget(targetPath, backup.sizeBytes, { ...wish, isResumed: loaded !== undefined });
    if (loaded !== undefined) checkTargetIdentity(loaded.header.target, target.identity, place.path);
    return await begin(wish, place, target, file && loaded && { file, loaded });
  } catch (error) {
    await file?.close();
    await target?.abandon();
    throw error;
  }
}

interface Before {
  readonly file: StateFile;
  readonly loaded: LoadedJournal;
}

async function begin(
  wish: LiveStateWish,
  place: StatePlace,
  target: LiveTarget,
  before: Before | undefined,
): Promise<LiveState> {
  const recorded = new RecordedTarget(target.device, wish.backup.sizeBytes);
  const { excessBytes } = target;
  const isResumed = before !== undefined;
  const { path: targetPath, kind } = target.identity;
  const facts = {
    ...{ target: recorded, targetPath, isDevice: kind === 'device', statePath: place.path, excessBytes, isResumed },
    unlock: () => target.device.unlock(),
    lock: () => target.device.lock(),
    shareLength: () => target.device.shareLength(),
  };
  if (before?.loaded.isComplete) {
    const close = async ({ removeState }: { removeState: boolean }): Promise<void> => {
      if (removeState) await place.remove();
      await before.file.close();
      await recorded.close();
    };
    return { ...facts, filling: undefined, close, abandon: () => close({ removeState: false }) };
  }
  const journal = await openJournal(wish, place, target, recorded, before);
  recorded.journal = journal;
  const held = before?.loaded.held ?? new DirtyBitmap(wish.backup.sizeBytes, GRANULARITY_BYTES);
  const close = async ({ removeState }: { removeState: boolean }): Promise<void> => {
    if (removeState) await journal.remove();
    await journal.close();
    await recorded.close();
  };
  const abandon = async (): Promise<void> => {
    if (!isResumed) await journal.remove();
    await journal.close();
    await target.abandon();
  };
  // What an earlier process wrote and did not record lies somewhere on the target: it is no longer zeros.
  return { ...facts, filling: { journal, held, targetIsZero: target.isZero && !isResumed }, close, abandon };
}

/** Goes on with the file where that can be done; else begins a new one, in its place. */
async function openJournal(
  wish: LiveStateWish,
  place: StatePlace,
  target: LiveTarget,
  recorded: RecordedTarget,
  before: Before | undefined,
): Promise<Journal> {
  const options: JournalOptions = {
    place,
    identity: { backup: wish.backup, target: target.identity },
    bootId: wish.bootId,
    flushTarget: () => recorded.flush(),
    warn: wish.warn,
  };
  if (before === undefined) {
    return await Journal.create(options, new DirtyBitmap(wish.backup.sizeBytes, GRANULARITY_BYTES));
  }
  const { file, loaded } = before;
  if (loaded.tail !== undefined) return await Journal.resume(options, file, loaded, loaded.tail);
  await target.device.flush();
  const journal = await Journal.create(options, loaded.held);
  await file.close();
  return journal;
}
