// SPDX-License-Identifier: MIT
// vmar export

import { DEFAULT_CLUSTER_BYTES } from '../../../formats/vmar/limits.js';
import { diskBytes } from '../../../formats/vmar/manifest.js';
import { openArchiveVault } from '../../archive/archive-vault.js';
import { beside } from '../../archive/beside.js';
import { copyBackup, createReader, describeAgain } from '../../archive/copy-backup.js';
import { exportArchive } from '../../archive/export-archive.js';
import { backupIdentity } from '../../archive/identity.js';
import { createMachine, type Machine } from '../../archive/machine.js';
import { EXIT, type ExitStatus, UsageError } from '../../base/errors.js';
import type { DumpResult } from '../../plugin-api.js';
import { archiveTarget, openArchiveSink } from '../archive-sink-of.js';
import type { Context } from '../context.js';
import { type Companionship, companionsOf } from '../export-companions.js';
import { archivePath, type ExportFlags, type ExportWish, parseExport } from '../export-wish.js';
import { humanDuration, humanRate, humanSize } from '../human.js';
import { type OpenBackup, withBackups } from '../open-named-backup.js';
import { printable } from '../printable.js';
import { Progress } from '../progress.js';
import { lackingForQmrestore } from '../qmrestore-needs.js';
import { secondsSinceStart } from '../seconds.js';

export type { ExportFlags } from '../export-wish.js';

export async function run(context: Context, name: string, flags: ExportFlags): Promise<ExitStatus> {
  if (flags.output === '-' && context.output.json) {
    throw new UsageError('json-here', 'standard output is the archive: --json has no place', { object: '--output -' });
  }
  const wish = parseExport(flags);
  return await withBackups(context, [name], async ([backup]) => {
    const stop = new AbortController();
    const result = await context.interrupts.during(
      () => stop.abort(),
      () => exportBackup(context, backup!, wish, stop.signal),
    );
    tell(context, backup!, wish, result);
    return EXIT.done;
  });
}

/** Of what is compressed anew. */
const DEFAULT_LEVEL = 1;

interface Exported extends DumpResult {
  /** Files that were written beside the archive. */
  readonly beside: readonly string[];
}

interface ExportRun {
  readonly context: Context;
  readonly backup: OpenBackup;
  readonly wish: ExportWish;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

async function exportBackup(
  context: Context,
  backup: OpenBackup,
  wish: ExportWish,
  signal: AbortSignal,
): Promise<Exported> {
  const progress = new Progress(context.output, 'exporting');
  try {
    const isCarried = wish.format === 'vmar' && wish.level === undefined && isOfOneSize(backup);
    if (wish.format === 'vmar') tellLostWithVmar(context, backup);
    const run = { context, backup, wish, progress, signal };
    return await (isCarried ? exportFrames(run) : exportDisks(run));
  } finally {
    progress.end();
  }
}

/** Into an archive of ours, by what is stored of it. */
async function exportFrames({ backup, wish, progress, signal }: ExportRun): Promise<Exported> {
  const { manifest } = backup;
  const machine = machineFor(backup, wish);
  try {
    const { hash, mapFanout: fanout, guestId, timeSeconds } = manifest;
    const target = archiveTarget(archivePath(wish, guestId, timeSeconds));
    const vault = await openArchiveVault(target, { hash, fanout, clusterSizeBytes: clusterSizeOf(backup) });
    progress.addTotal(diskBytes(manifest));
    const onProgress = (bytes: number) => progress.add(bytes);
    return { ...(await exportArchive(backup, vault, { machine, signal, onProgress })), beside: [] };
  } finally {
    await machine.close();
  }
}

/** By reading its disks. */
async function exportDisks({ context, backup, wish, progress, signal }: ExportRun): Promise<Exported> {
  const { manifest } = backup;
  const { format, workers } = wish;
  const reader = createReader(backup, workers);
  reader.warmUp();
  let machine: Machine | undefined;
  const makeMachine = () => {
    machine = machineFor(backup, wish);
    return { machine, clusterSizeBytes: clusterSizeOf(backup) };
  };
  try {
    const path = archivePath(wish, manifest.guestId, manifest.timeSeconds);
    const uuid = backupIdentity(manifest);
    const companions = format === 'vma' ? companionsFor(backup, wish, path) : undefined;
    await companions?.files.check();
    await companions?.files.prepare();
    try {
      const sink = await openArchiveSink({ format, path, machine: makeMachine, uuid, isOrdered: true });
      const { configs } = companions ?? manifest;
      const result = await copyBackup(backup, { ...describeAgain(manifest), ...beside(backup), configs }, sink, {
        ...{ executor: reader, signal },
        onStart: (bytes) => progress.addTotal(bytes),
        onProgress: (bytes) => progress.setDone(bytes),
      });
      await companions?.files.publish();
      tellLeftOut(context, companions);
      if (format === 'vma') tellForQmrestore(context, backup, wish);
      return { ...result, beside: companions?.paths ?? [] };
    } catch (error) {
      await companions?.files.remove();
      throw error;
    }
  } finally {
    await reader.close();
    await machine?.close();
  }
}

function clusterSizeOf({ manifest }: OpenBackup): number {
  return manifest.disks[0]?.clusterSizeBytes ?? DEFAULT_CLUSTER_BYTES;
}

/** A container has clusters of one size. */
function isOfOneSize(backup: OpenBackup): boolean {
  return backup.manifest.disks.every(({ clusterSizeBytes }) => clusterSizeBytes === clusterSizeOf(backup));
}

function machineFor(backup: OpenBackup, { level = DEFAULT_LEVEL, workers }: ExportWish): Machine {
  const { hash } = backup.manifest;
  const count = workers === undefined ? {} : { workers };
  return createMachine({ hash, clusterSizeBytes: clusterSizeOf(backup), level, ...count });
}

function companionsFor(backup: OpenBackup, { place }: ExportWish, path: string | undefined): Companionship {
  const { notes = '', isProtected = false } = beside(backup);
  return companionsOf(backup.manifest, { notes, isProtected }, place.kind === 'directory' ? path : undefined);
}

function tellLeftOut({ log }: Context, companions: Companionship | undefined): void {
  if (companions === undefined || companions.leftOut.length === 0) return;
  const what = companions.leftOut.join(' and ');
  log.info(`a .vma file has no room for the ${what} of the backup; with a directory as --output they go beside it`);
}

function tellForQmrestore({ log }: Context, { manifest }: OpenBackup, { place }: ExportWish): void {
  const isNamedForIt = /^[1-9]\d*$/.test(manifest.guestId);
  if (place.kind === 'directory' && !isNamedForIt) {
    log.info(`guest ${manifest.guestId} has no number: Proxmox knows the file once its name says vzdump-qemu-NUMBER-…`);
  }
  const lacking = lackingForQmrestore(manifest);
  if (lacking !== undefined) log.info(lacking);
}

/** They lie beside a manifest, and are none of it. */
function tellLostWithVmar({ log }: Context, backup: OpenBackup): void {
  const { labels = new Map(), notes = '', isProtected = false } = beside(backup);
  const lost = [
    ...(labels.size === 0 ? [] : ['labels']),
    ...(notes === '' ? [] : ['notes']),
    ...(isProtected ? ['mark of protection'] : []),
  ];
  if (lost.length === 0) return;
  log.info(`a .vmar file has no room for the ${lost.join(' and ')} of the backup; --format tar keeps them`);
}

function tell(
  { output }: Context,
  backup: OpenBackup,
  { format, place }: ExportWish,
  { disks, beside, ...result }: Exported,
) {
  const seconds = secondsSinceStart();
  const sizeBytes = disks.reduce((sum, disk) => sum + disk.sizeBytes, 0);
  const readBytes = disks.reduce((sum, disk) => sum + disk.readBytes, 0);
  const isStream = place.kind === 'standard-output';
  const text = () => {
    const where = isStream ? 'standard output' : printable(result.backup);
    const took = `${humanDuration(seconds)}, ${humanRate(readBytes, seconds)} read`;
    return `${backup.name} (${humanSize(sizeBytes)}) exported to ${where} in ${took}`;
  };
  if (isStream) output.notice(text());
  else {
    output.summary(
      () => ({
        ...{ backup: backup.name, format, output: result.backup, size: sizeBytes, read: readBytes },
        ...(beside.length === 0 ? {} : { beside }),
        seconds,
      }),
      () => [...beside.map((path) => `beside it: ${printable(path)}`), text()].join('\n'),
    );
  }
}
