// SPDX-License-Identifier: MIT
// vmar export

import { DEFAULT_CLUSTER_BYTES } from '../../../formats/vmar/limits.js';
import { beside } from '../../archive/beside.js';
import { copyBackup, createReader, describeAgain } from '../../archive/copy-backup.js';
import { backupIdentity } from '../../archive/identity.js';
import { createMachine, type Machine } from '../../archive/machine.js';
import { EXIT, type ExitStatus, UsageError } from '../../base/errors.js';
import type { DumpResult } from '../../plugin-api.js';
import { openArchiveSink } from '../archive-sink-of.js';
import type { Context } from '../context.js';
import { type Companionship, companionsOf } from '../export-companions.js';
import { archivePath, type ExportFlags, type ExportWish, parseExport } from '../export-wish.js';
import { humanDuration, humanRate, humanSize } from '../human.js';
import { type OpenBackup, withBackups } from '../open-named-backup.js';
import { printable } from '../printable.js';
import { Progress } from '../progress.js';
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

interface Exported extends DumpResult {
  /** Files that were written beside the archive. */
  readonly beside: readonly string[];
}

async function exportBackup(
  context: Context,
  backup: OpenBackup,
  wish: ExportWish,
  signal: AbortSignal,
): Promise<Exported> {
  const { manifest } = backup;
  const { format, level, workers } = wish;
  const progress = new Progress(context.output, 'exporting');
  const reader = createReader(backup, workers);
  reader.warmUp();
  let machine: Machine | undefined;
  const makeMachine = () => {
    const clusterSizeBytes = manifest.disks[0]?.clusterSizeBytes ?? DEFAULT_CLUSTER_BYTES;
    const count = workers === undefined ? {} : { workers };
    machine = createMachine({ hash: manifest.hash, clusterSizeBytes, level, ...count });
    return { machine, clusterSizeBytes };
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
      return { ...result, beside: companions?.paths ?? [] };
    } catch (error) {
      await companions?.files.remove();
      throw error;
    }
  } finally {
    progress.end();
    await reader.close();
    await machine?.close();
  }
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
