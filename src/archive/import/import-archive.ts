// SPDX-License-Identifier: MIT
// An archive of ours becomes a backup of a datastore: the same guest, the same moment, the same bytes.

import type { Manifest } from '../../../formats/vmar/manifest.js';
import { REAL_CLOCK } from '../../base/clock.js';
import { InterruptedError } from '../../base/errors.js';
import { BackupJob } from '../../jobs/backup-job.js';
import { createExecutor } from '../../pipeline/executor.js';
import type { BackupDescription, DumpResult, DumpSink } from '../../plugin-api.js';
import { type BackupDisk, openBackupDisk } from '../backup-disk.js';
import type { Machine } from '../machine.js';
import type { OpenBackup } from '../open-backup.js';
import { backupIdentity } from './identity.js';
import type { ImportPlace, ImportResult } from './import-place.js';
import type { ImportWish } from './import-vma.js';

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

export async function importArchive(backup: OpenBackup, wish: ImportWish, place: ImportPlace): Promise<ImportResult> {
  const { guest, timeSeconds } = wish;
  const description = {
    ...describeAgain(backup.manifest),
    ...(guest === undefined ? {} : { namespace: guest.namespace, guestId: guest.guestId }),
    ...(timeSeconds === undefined ? {} : { timeSeconds }),
  };
  const { machine, signal } = place.options;
  return await place.add(description, async (sink) => await copyBackup(backup, description, sink, { machine, signal }));
}

export interface CopyBackupOptions {
  /** Its threads read, where they use the same hash as the backup. */
  readonly machine?: Machine | undefined;
  readonly workers?: number;
  readonly signal?: AbortSignal | undefined;
  readonly onStart?: (totalBytes: number) => void;
  readonly onProgress?: (doneBytes: number) => void;
}

/** Reads all disks of a backup into a sink, from `begin` to `finish`; aborts it if that fails. */
export async function copyBackup(
  backup: OpenBackup,
  description: BackupDescription,
  sink: DumpSink,
  options: CopyBackupOptions,
): Promise<DumpResult> {
  const { machine, signal, onStart, onProgress } = options;
  const { hash } = backup.manifest;
  const clusterSizeBytes = backup.manifest.disks[0]?.clusterSizeBytes ?? 0;
  const own =
    machine?.hash === hash
      ? undefined
      : createExecutor({ workers: options.workers ?? 1, hash, level: 1, clusterSizeBytes, pools: [] });
  const disks: BackupDisk[] = [];
  let started = false;
  try {
    const executor = own ?? machine?.executor;
    for (const { name } of backup.manifest.disks) {
      disks.push(await openBackupDisk(backup, name, executor === undefined ? {} : { executor }));
    }
    const job = new BackupJob({
      ...{ disks: disks.map((device) => ({ device })), sink, description },
      ...{ speedBytesPerSecond: 0, clock: REAL_CLOCK },
      onProgress: ({ doneBytes }) => onProgress?.(doneBytes),
    });
    onStart?.(job.progress().totalBytes);
    if (signal?.aborted) throw new InterruptedError();
    signal?.addEventListener('abort', () => job.cancel(), { once: true });
    started = true;
    return await job.run();
  } catch (error) {
    // A job that ran has aborted it.
    if (!started) await sink.abort();
    throw error;
  } finally {
    for (const disk of disks) await disk.close();
    await own?.close();
  }
}
