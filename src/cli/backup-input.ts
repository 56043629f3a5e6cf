// SPDX-License-Identifier: MIT
// What a backup reads, wherever it comes from.

import type { BackupJobDisk } from '../jobs/backup-job.js';
import type { Executor } from '../pipeline/executor.js';
import type { BackupDescription, DumpSink, GuestSurvey, OutsideState, SnapshotOutcome } from '../plugin-api.js';
import type { Datastore } from '../store/datastore.js';
import type { BackupWish } from './backup-wish.js';
import type { Context } from './context.js';
import { ChangedExports } from './export-input.js';
import { type OpenSource, openSources } from './sources.js';

export interface LiveFacts {
  /** How long the guest stood still; 0: it did not. */
  readonly pausedMicros: number;
  readonly consistency: BackupDescription['consistency'];
  readonly skipped: GuestSurvey['skipped'];
  /** State outside of its disks that was not kept. */
  readonly notKept: readonly OutsideState[];
}

export interface BackupInput {
  /** In the order of `description.disks`. */
  readonly disks: readonly BackupJobDisk[];
  readonly description: Pick<BackupDescription, 'source' | 'consistency' | 'disks' | 'guestName' | 'guestUuid'>;
  /** Kept besides those that were given, unless one of these has the same name. */
  readonly configs?: BackupDescription['configs'];
  /** Of a guest that runs. */
  readonly live?: LiveFacts;
  /** Told once, before the job runs. */
  startsInto?(sink: DumpSink): void;
  /** After a backup that came off: rejects if something about it is to be told as an error. */
  check?(): void;
  close(outcome: SnapshotOutcome): Promise<void>;
}

/** What a backup into a datastore has, of which the guest's lock is held. */
export interface StoreAtHand {
  readonly store: Datastore | undefined;
  readonly executor: Executor;
}

export async function openImages(
  context: Context,
  wish: BackupWish,
  { store, executor }: StoreAtHand,
  signal: AbortSignal,
): Promise<BackupInput> {
  const { guest, exports } = wish;
  const { discardSource, parent: expectedParent } = exports;
  const changed =
    store === undefined
      ? undefined
      : new ChangedExports(context, { store, guest, expectedParent, executor, discardSource, signal });
  const sources: OpenSource[] = [];
  const close = async () => {
    for (const { device } of sources) await device.close();
    await changed?.close();
  };
  try {
    await openSources(context, wish, changed, sources, signal);
  } catch (error) {
    await close();
    throw error;
  }
  const disks = sources.map(({ device, sync }) => (sync === undefined ? { device } : { device, sync }));
  return { disks, description: describe(wish, sources), close };
}

function describe(
  { disks, forceShare, exports }: BackupWish,
  sources: readonly OpenSource[],
): BackupInput['description'] {
  const isShared = (source: OpenSource): boolean => forceShare && source.kind === 'image';
  // Nobody wrote to the images, unless a lock was passed over; what an NBD server does, nobody knows.
  const isOffline = sources.every((source) => source.kind === 'image' && !isShared(source));
  return {
    source: sources.find(({ kind }) => kind !== 'image')?.kind ?? 'image',
    consistency: isOffline ? 'offline' : 'crash',
    disks: disks.map(({ name }, index) => ({
      name,
      kind: 'disk' as const,
      sizeBytes: sources[index]!.device.lengthBytes,
      forceShared: isShared(sources[index]!),
      ...bitmapOf(exports, name),
    })),
  };
}

function bitmapOf({ bitmaps }: BackupWish['exports'], disk: string): { readonly bitmapName?: string } {
  const bitmap = bitmaps.get(disk);
  return bitmap === undefined ? {} : { bitmapName: bitmap.name };
}
