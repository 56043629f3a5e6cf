// SPDX-License-Identifier: MIT
// A backup from beginning to end: where it goes, what it reads, the job between them, and what is told of it.

import { createWriteStream } from 'node:fs';
import { DEFAULT_CLUSTER_BYTES } from '../../formats/vmar/limits.js';
import { ArchiveSink } from '../archive/archive-sink.js';
import { openArchiveVault } from '../archive/archive-vault.js';
import { openDatastoreVault } from '../archive/datastore-vault.js';
import { createMachine, type Machine } from '../archive/machine.js';
import type { Vault } from '../archive/vault.js';
import { REAL_CLOCK } from '../base/clock.js';
import { EXIT, type ExitStatus, InterruptedError } from '../base/errors.js';
import { BackupJob } from '../jobs/backup-job.js';
import type { BackupDescription, DumpResult } from '../plugin-api.js';
import type { Datastore } from '../store/datastore.js';
import { tellBackup } from './backup-report.js';
import type { BackupWish } from './backup-wish.js';
import type { Context } from './context.js';
import { openStore } from './open-store.js';
import { Progress } from './progress.js';
import { secondsSinceStart } from './seconds.js';
import { type OpenSource, openSources } from './sources.js';

type Configs = BackupDescription['configs'];

/** Of an archive that no datastore decides. */
const ARCHIVE_SHAPE = { clusterSizeBytes: DEFAULT_CLUSTER_BYTES, hash: 'blake3' as const };

export async function runBackup(context: Context, wish: BackupWish, configs: Configs): Promise<ExitStatus> {
  const store = wish.target.kind === 'datastore' ? await openStore(context) : undefined;
  const { hash, clusterSizeBytes } = store?.superblock ?? ARCHIVE_SHAPE;
  const { level, workers } = wish;
  const machine = createMachine({ hash, clusterSizeBytes, level, ...(workers === undefined ? {} : { workers }) });
  machine.executor.warmUp();
  try {
    const stop = new AbortController();
    const work = async (): Promise<DumpResult> => {
      const vault = await openVault(wish, store, stop.signal);
      return await backUp(context, wish, configs, vault, machine, stop.signal);
    };
    const result = await context.interrupts.during(() => stop.abort(), work);
    tellBackup(context, wish, result, secondsSinceStart());
    return EXIT.done;
  } finally {
    await machine.close();
    await store?.close();
  }
}

async function openVault(wish: BackupWish, store: Datastore | undefined, signal: AbortSignal): Promise<Vault> {
  const { guest, target, waitSeconds } = wish;
  if (store !== undefined) return await openDatastoreVault(store, guest, { waitSeconds, signal });
  if (target.kind === 'file') return await openArchiveVault({ ...target, overwrite: false }, ARCHIVE_SHAPE);
  // Not process.stdout, which blocks this thread while the reader is slow.
  const stream = createWriteStream('', { fd: 1, autoClose: false });
  return await openArchiveVault({ kind: 'stream', stream }, ARCHIVE_SHAPE);
}

/** Takes the vault: it is committed or aborted. */
async function backUp(
  context: Context,
  wish: BackupWish,
  configs: Configs,
  vault: Vault,
  machine: Machine,
  signal: AbortSignal,
): Promise<DumpResult> {
  const sources: OpenSource[] = [];
  const progress = new Progress(context.output, 'backing up');
  let started = false;
  try {
    await openSources(context, wish, sources, signal);
    if (signal.aborted) throw new InterruptedError();
    const job = new BackupJob({
      disks: sources.map(({ device }) => ({ device })),
      sink: new ArchiveSink(vault, machine),
      description: describe(wish, sources, configs),
      speedBytesPerSecond: wish.speedBytesPerSecond,
      clock: REAL_CLOCK,
      onProgress: ({ doneBytes }) => progress.setDone(doneBytes),
    });
    progress.addTotal(job.progress().totalBytes);
    signal.addEventListener('abort', () => job.cancel(), { once: true });
    started = true;
    return await job.run();
  } catch (error) {
    // A job that ran has aborted it.
    if (!started) await vault.abort();
    throw error;
  } finally {
    progress.end();
    for (const { device } of sources) await device.close();
  }
}

function describe(wish: BackupWish, sources: readonly OpenSource[], configs: Configs): BackupDescription {
  const { guest, disks, timeSeconds, forceShare, labels } = wish;
  const isShared = (source: OpenSource): boolean => forceShare && source.kind === 'image';
  // Nobody wrote to the images, unless a lock was passed over; what an NBD server does, nobody knows.
  const isOffline = sources.every((source) => source.kind === 'image' && !isShared(source));
  return {
    namespace: guest.namespace,
    guestId: guest.guestId,
    timeSeconds,
    source: sources.find(({ kind }) => kind !== 'image')?.kind ?? 'image',
    consistency: isOffline ? 'offline' : 'crash',
    disks: disks.map(({ name }, index) => ({
      name,
      kind: 'disk' as const,
      sizeBytes: sources[index]!.device.lengthBytes,
      forceShared: isShared(sources[index]!),
    })),
    configs,
    labels,
  };
}
