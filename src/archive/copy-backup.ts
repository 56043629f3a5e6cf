// SPDX-License-Identifier: MIT
// A backup is read into a sink: for whoever takes it elsewhere, into a datastore or out of one.

import { availableParallelism } from 'node:os';
import type { Manifest } from '../../formats/vmar/manifest.js';
import { REAL_CLOCK } from '../base/clock.js';
import { InterruptedError } from '../base/errors.js';
import { BackupJob } from '../jobs/backup-job.js';
import { createExecutor, type Executor } from '../pipeline/executor.js';
import type { BackupDescription, DumpResult, DumpSink } from '../plugin-api.js';
import { type BackupDisk, openBackupDisk } from './backup-disk.js';
import { backupIdentity } from './identity.js';
import type { OpenBackup } from './open-backup.js';

/** A backup as it would be made anew. */
export function describeAgain(manifest: Manifest): BackupDescription {
  const { namespace, guestId, guestName, guestUuid, timeSeconds, source, consistency, configs } = manifest;
  return {
    ...{ namespace, guestId, guestName, timeSeconds, source, consistency, configs },
    ...(guestUuid.byteLength === 0 ? {} : { guestUuid }),
    sourceUuid: backupIdentity(manifest),
    disks: manifest.disks.map(({ name, kind, sizeBytes, forceShared }) => ({ name, kind, sizeBytes, forceShared })),
  };
}

/** Threads that read the backup. */
export function createReader({ manifest }: OpenBackup, workers: number = availableParallelism()): Executor {
  const clusterSizeBytes = manifest.disks[0]?.clusterSizeBytes ?? 0;
  return createExecutor({ workers, hash: manifest.hash, level: 1, clusterSizeBytes, pools: [] });
}

export interface CopyBackupOptions {
  /** Its threads read; of the backup's hash. */
  readonly executor: Executor;
  readonly signal?: AbortSignal;
  readonly onStart?: (totalBytes: number) => void;
  readonly onProgress?: (doneBytes: number) => void;
}

/** Reads all disks of a backup into a sink, from `begin` to `finish`; aborts it if that fails. */
export async function copyBackup(
  backup: OpenBackup,
  description: BackupDescription,
  sink: DumpSink,
  { executor, signal, onStart, onProgress }: CopyBackupOptions,
): Promise<DumpResult> {
  const disks: BackupDisk[] = [];
  let started = false;
  let cancel = (): void => undefined;
  try {
    for (const { name } of backup.manifest.disks) disks.push(await openBackupDisk(backup, name, { executor }));
    const job = new BackupJob({
      ...{ disks: disks.map((device) => ({ device })), sink, description },
      ...{ speedBytesPerSecond: 0, clock: REAL_CLOCK },
      onProgress: ({ doneBytes }) => onProgress?.(doneBytes),
    });
    onStart?.(job.progress().totalBytes);
    if (signal?.aborted) throw new InterruptedError();
    cancel = () => {
      job.cancel();
      backup.source.endSearch?.();
    };
    signal?.addEventListener('abort', cancel, { once: true });
    started = true;
    return await job.run();
  } catch (error) {
    // A job that ran has aborted it.
    if (!started) await sink.abort();
    throw error;
  } finally {
    // The signal may be that of many copies, one after another.
    signal?.removeEventListener('abort', cancel);
    for (const disk of disks) await disk.close();
  }
}
