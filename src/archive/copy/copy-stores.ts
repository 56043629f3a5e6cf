// SPDX-License-Identifier: MIT
// Backups from one datastore to another, one after another.
//
// Guarantees: a backup is at the destination as a whole or not at all, and is the one that it was: the guest, the time, the
// content, the labels. Neither side waits for its gc: each has a session. One that cannot be copied stops no other, but
// for what would stop all: a datastore that went away, a full disk.

import { setImmediate as letOthersRun } from 'node:timers/promises';
import { diskBytes } from '../../../formats/vmar/manifest.js';
import { BugError, InterruptedError, VmarError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { type BackupRef, formatBackupId } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import type { Machine } from '../machine.js';
import { CopyOne } from './copy-one.js';
import { type PlannedCopy, planCopies } from './copy-plan.js';
import { DryCopies } from './dry-copies.js';

export interface CopyOptions {
  readonly source: Datastore;
  readonly destination: Datastore;
  /** Of the destination's shape. */
  readonly machine: Machine;
  /** How long to wait for a guest that another process works on there. */
  readonly waitSeconds: number;
  readonly isDryRun: boolean;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Bytes of disks that there are to look at, and that were looked at. */
  readonly onTotal: (bytes: number) => void;
  readonly onProgress: (bytes: number) => void;
}

export interface CopiedBackup {
  readonly backup: string;
  /** It was there before; nothing was done. */
  readonly isKnown: boolean;
  /** Its disks were read and chunked anew, since the datastores are not of one shape. */
  readonly isRechunked: boolean;
  readonly sizeBytes: number;
  /** Of chunks that the destination lacked. */
  readonly newBytes: number;
  /** What they take there. */
  readonly storedBytes: number;
}

export interface FailedCopy {
  readonly backup: string;
  readonly error: VmarError;
}

export interface CopyReport {
  readonly copied: readonly CopiedBackup[];
  readonly failed: readonly FailedCopy[];
}

/** No use to go on with the next. */
const HOPELESS = new Set(['store-unreachable', 'no-space', 'min-free', 'no-permission', 'read-only']);

/** @throws what stops all of them, and InterruptedError */
export async function copyBackups(refs: readonly BackupRef[], options: CopyOptions): Promise<CopyReport> {
  const { source, destination, onTotal } = options;
  const plan = await planCopies(source, destination, refs);
  onTotal(plan.reduce((sum, planned) => sum + (planned.state === 'lacking' ? planned.totalBytes : 0), 0));
  const copier = options.isDryRun ? new DryCopies(options) : new CopyOne(options);
  const copied: CopiedBackup[] = [];
  const failed: FailedCopy[] = [];
  for (const planned of plan) {
    await letOthersRun();
    if (options.signal.aborted) throw new InterruptedError();
    try {
      copied.push(await copyPlanned(planned, copier));
    } catch (error) {
      if (options.signal.aborted) throw new InterruptedError();
      failed.push({ backup: formatBackupId(planned.ref), error: await judge(error, options, plan.length) });
    }
  }
  return { copied, failed };
}

/** What copies a backup, or says what that would be. */
export interface Copier {
  copy(ref: BackupRef): Promise<CopiedBackup>;
  /** Of a backup that is there already: what an earlier copy that was cut off did not come to. */
  complete(planned: Extract<PlannedCopy, { state: 'there' }>): Promise<void>;
}

async function copyPlanned(planned: PlannedCopy, copier: Copier): Promise<CopiedBackup> {
  const { ref, state } = planned;
  if (state === 'failed') throw planned.error;
  if (state === 'lacking') return await copier.copy(ref);
  await copier.complete(planned);
  const { manifest } = planned.found;
  const sizeBytes = diskBytes(manifest);
  const backup = formatBackupId(ref);
  return { backup, isKnown: true, isRechunked: false, sizeBytes, newBytes: 0, storedBytes: 0 };
}

/** The error to be told; throws what stops all. A datastore that is away as a whole looks like damage or missing files. */
async function judge(error: unknown, { source, destination }: CopyOptions, count: number): Promise<VmarError> {
  if (!(error instanceof VmarError) || error instanceof BugError) throw error;
  await source.checkReachable();
  await destination.checkReachable();
  if (count === 1 || HOPELESS.has(error.code)) throw error;
  return error;
}
