// SPDX-License-Identifier: MIT
// What a backup reads, wherever it comes from.

import type { BackupJobDisk } from '../jobs/backup-job.js';
import type { BackupDescription, DumpSink, SnapshotOutcome } from '../plugin-api.js';
import type { BackupWish } from './backup-wish.js';
import type { Context } from './context.js';
import { type OpenSource, openSources } from './sources.js';

export interface BackupInput {
  /** In the order of `description.disks`. */
  readonly disks: readonly BackupJobDisk[];
  readonly description: Pick<BackupDescription, 'source' | 'consistency' | 'disks' | 'guestName' | 'guestUuid'>;
  /** Told once, before the job runs. */
  startsInto?(sink: DumpSink): void;
  close(outcome: SnapshotOutcome): Promise<void>;
}

export async function openImages(context: Context, wish: BackupWish, signal: AbortSignal): Promise<BackupInput> {
  const sources: OpenSource[] = [];
  const close = async () => {
    for (const { device } of sources) await device.close();
  };
  try {
    await openSources(context, wish, sources, signal);
  } catch (error) {
    await close();
    throw error;
  }
  return { disks: sources.map(({ device }) => ({ device })), description: describe(wish, sources), close };
}

function describe({ disks, forceShare }: BackupWish, sources: readonly OpenSource[]): BackupInput['description'] {
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
    })),
  };
}
