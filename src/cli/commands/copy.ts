// SPDX-License-Identifier: MIT
// vmar copy

import { backupsOf } from '../../archive/copy/copy-plan.js';
import { type CopyReport, copyBackups } from '../../archive/copy/copy-stores.js';
import { createMachine } from '../../archive/machine.js';
import { bytesEqual, toHex } from '../../base/bytes.js';
import { type ExitStatus, UsageError } from '../../base/errors.js';
import type { BackupRef } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import type { Context } from '../context.js';
import { tellCopy } from '../copy-report.js';
import { type CopyFlags, type CopyWish, parseCopy } from '../copy-wish.js';
import { findBackups } from '../find-backups.js';
import { findGuests } from '../find-guests.js';
import { openStore, openStoreAt } from '../open-store.js';
import { Progress } from '../progress.js';
import { secondsSinceStart } from '../seconds.js';

export type { CopyFlags } from '../copy-wish.js';

export async function run(context: Context, names: readonly string[], flags: CopyFlags): Promise<ExitStatus> {
  const wish = parseCopy(names, flags);
  const { isPull, other, minFreeBytes } = wish;
  const room = { minFreeBytes: wish.isDryRun ? 0 : minFreeBytes };
  const ours = await openStore(context, isPull ? room : {});
  const stores = [ours];
  try {
    const theirs = await openStoreAt(context, other, isPull ? {} : room);
    stores.push(theirs);
    refuseSame(ours, theirs);
    const [source, destination] = isPull ? [theirs, ours] : [ours, theirs];
    const refs = await chosen(source, wish);
    const stop = new AbortController();
    const report = await context.interrupts.during(
      () => stop.abort(),
      () => copyAll(context, source, destination, refs, wish, stop.signal),
    );
    const { wanted, isDryRun } = wish;
    const about = { from: source.root, to: destination.root, isDryRun, isNamed: wanted.kind === 'named' };
    return tellCopy(context, { ...about, ...report, seconds: secondsSinceStart() });
  } finally {
    for (const store of stores) await store.close();
  }
}

async function copyAll(
  context: Context,
  source: Datastore,
  destination: Datastore,
  refs: readonly BackupRef[],
  { level, workers, waitSeconds, isDryRun }: CopyWish,
  signal: AbortSignal,
): Promise<CopyReport> {
  const { hash, clusterSizeBytes } = destination.superblock;
  const machine = createMachine({ hash, clusterSizeBytes, level, ...(workers === undefined ? {} : { workers }) });
  const progress = new Progress(context.output, isDryRun ? 'comparing' : 'copying');
  try {
    return await copyBackups(refs, {
      ...{ source, destination, machine, waitSeconds, isDryRun, signal, log: context.log },
      onTotal: (bytes) => progress.addTotal(bytes),
      onProgress: (bytes) => progress.add(bytes),
    });
  } finally {
    progress.end();
    await machine.close();
  }
}

async function chosen(source: Datastore, { wanted }: CopyWish): Promise<BackupRef[]> {
  switch (wanted.kind) {
    case 'named':
      return await findBackups(source.root, wanted.names, 'copied');
    case 'guests':
      return await backupsOf(source, await findGuests(source.root, wanted.guests));
    case 'all':
      return await backupsOf(source, 'all');
  }
}

/** Both would share one index, and one of them is a copy that was made by other means. */
function refuseSame(ours: Datastore, theirs: Datastore): void {
  const uuid = ours.superblock.storeUuid;
  if (!bytesEqual(uuid, theirs.superblock.storeUuid)) return;
  throw new UsageError('same-datastore', 'both are one datastore', {
    object: theirs.root,
    found: `the UUID ${toHex(uuid)} in both`,
    advice: 'Copy to a datastore that `vmar init` made.',
  });
}
