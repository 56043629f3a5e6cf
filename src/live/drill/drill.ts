// SPDX-License-Identifier: MIT
// One drill: the disks of a backup are opened, tried, and all is put away.

import { join } from 'node:path';
import { openBackupDisk } from '../../archive/backup-disk.js';
import { findDisk } from '../../archive/find-disk.js';
import type { OpenBackup } from '../../archive/open-backup.js';
import { type DamageError, FailedError, InterruptedError } from '../../base/errors.js';
import type { Executor } from '../../pipeline/executor.js';
import { type Booted, type BootWish, bootGuest } from './boot-drill.js';
import { DrillDisk } from './drill-disk.js';
import { type DrillPlace, withDrillPlace } from './drill-place.js';
import { type FsckedDisk, fsckDisk } from './fsck-drill.js';

export type DrillAction =
  | { readonly kind: 'fsck'; readonly allowMount: boolean; readonly timeoutSeconds: number }
  | { readonly kind: 'boot'; readonly boot: BootWish };

export interface DrillOptions {
  readonly action: DrillAction;
  /** Empty: all that are disks. */
  readonly disks: readonly string[];
  readonly executor: Executor;
  /** For sockets; and for what the drill writes, where that is not said. */
  readonly temporaryDirectory: string;
  readonly workDirectory: string | undefined;
  readonly log: DrillPlace['log'];
  readonly signal: AbortSignal;
}

export interface DrillResult {
  /** Nothing failed, and something was tried. */
  readonly ok: boolean;
  readonly problem?: string;
  readonly fsck?: readonly FsckedDisk[];
  readonly boot?: Booted;
  /** Of disks, the first that was met. */
  readonly damage: readonly { readonly disk: string; readonly error: DamageError }[];
}

const MOST_SECONDS = 2 ** 31 / 1000 - 1;

/** The backup stays the caller's. @throws what kept it from being tried; a drill that fails is a result */
export async function drillBackup(backup: OpenBackup, options: DrillOptions): Promise<DrillResult> {
  const { action, executor, temporaryDirectory, workDirectory, log, signal } = options;
  const seconds = action.kind === 'fsck' ? action.timeoutSeconds : Number.POSITIVE_INFINITY;
  const late = new AbortController();
  const timer = seconds < MOST_SECONDS ? setTimeout(() => late.abort(), seconds * 1000) : undefined;
  const either = AbortSignal.any([signal, late.signal]);
  try {
    const parents = { temporary: temporaryDirectory, work: workDirectory };
    return await withDrillPlace(parents, { log, signal: either }, async (place) => {
      const names = disksOf(backup, options.disks);
      const opened: { close(): Promise<void> }[] = [];
      try {
        const disks: DrillDisk[] = [];
        for (const name of names) {
          const source = await openBackupDisk(backup, name, { executor, log });
          opened.unshift(source);
          const disk = await DrillDisk.open(source, join(place.workDirectory, `${name}.scratch`));
          opened.unshift(disk);
          disks.push(disk);
        }
        return await tryDisks(disks, action, place);
      } finally {
        for (const each of opened) await each.close();
      }
    });
  } catch (error) {
    if (signal.aborted) throw new InterruptedError();
    if (!late.signal.aborted) throw error;
    return { ok: false, problem: `it had not ended after ${seconds} s`, damage: [] };
  } finally {
    clearTimeout(timer);
  }
}

function disksOf({ manifest, name }: OpenBackup, wanted: readonly string[]): string[] {
  if (wanted.length > 0) return wanted.map((each) => findDisk(manifest, each).name);
  const disks = manifest.disks.filter(({ kind, sizeBytes }) => kind === 'disk' && sizeBytes > 0);
  if (disks.length > 0) return disks.map((disk) => disk.name);
  throw new FailedError('no-disks', 'the backup has no disk to try', { object: name });
}

async function tryDisks(disks: readonly DrillDisk[], action: DrillAction, place: DrillPlace): Promise<DrillResult> {
  const damage = () => disks.flatMap(({ name, damage: error }) => (error === undefined ? [] : [{ disk: name, error }]));
  if (action.kind === 'boot') {
    const boot = await bootGuest(disks, action.boot, place);
    const problem = boot.problem === undefined ? {} : { problem: boot.problem };
    return { ok: boot.ok && damage().length === 0, ...problem, boot, damage: damage() };
  }
  const fsck: FsckedDisk[] = [];
  for (const disk of disks) fsck.push(await fsckDisk(disk, place, action.allowMount));
  const problem = damage().length > 0 ? undefined : problemOf(fsck);
  const ok = problem === undefined && damage().length === 0;
  return { ok, ...(problem === undefined ? {} : { problem }), fsck, damage: damage() };
}

function problemOf(disks: readonly FsckedDisk[]): string | undefined {
  const broken = disks.find((disk) => disk.problem !== undefined);
  if (broken !== undefined) return `the partition table of ${broken.name} is broken: ${broken.problem}`;
  const parts = disks.flatMap(({ name, partitions }) => partitions.map((part) => ({ name, part })));
  const failed = parts.find(({ part }) => part.result === 'failed');
  if (failed !== undefined) {
    const { name, part } = failed;
    return `${part.fileSystem} on ${partitionName(name, part.number)}: ${part.problem ?? 'it is not sound'}`;
  }
  if (parts.some(({ part }) => part.result === 'passed')) return undefined;
  return 'nothing on its disks could be checked';
}

/** "scsi0, partition 2" */
export function partitionName(disk: string, number: number): string {
  return number === 0 ? disk : `${disk}, partition ${number}`;
}
