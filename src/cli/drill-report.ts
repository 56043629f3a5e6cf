// SPDX-License-Identifier: MIT
// What a drill tells when it is done, and what the datastore keeps of it.

import { hostname } from 'node:os';
import type { JobOutcome, JobReport } from '../../formats/vmar/job-report.js';
import { diskBytes } from '../../formats/vmar/manifest.js';
import { DatastoreChunks } from '../archive/datastore-chunks.js';
import { WRITER_NAME } from '../archive/writer-name.js';
import { EXIT, type ExitStatus, VmarError } from '../base/errors.js';
import type { Booted } from '../live/drill/boot-drill.js';
import { type DrillResult, partitionName } from '../live/drill/drill.js';
import type { FsckedDisk } from '../live/drill/fsck-drill.js';
import { formatGuest } from '../store/backup-id.js';
import { newReportPath, writeReport } from '../store/job-reports.js';
import type { Context } from './context.js';
import { humanDuration, humanSize } from './human.js';
import type { OpenBackup } from './open-named-backup.js';
import { withStore } from './open-store.js';
import type { Paint } from './paint.js';
import { printable } from './printable.js';
import { type DescribedError, describeError, renderError } from './render-error.js';
import { renderTable } from './table.js';

/** undefined if it passed. */
function errorOf(backup: OpenBackup, { ok, damage, problem }: DrillResult): DescribedError | undefined {
  const [first] = damage;
  if (first !== undefined) return describeError(first.error);
  if (ok) return undefined;
  return {
    ...{ code: 'drill-failed', message: `the drill failed: ${problem ?? 'it did not pass'}`, object: backup.name },
    exit: EXIT.failed,
  };
}

export function tellDrill(
  { command, output }: Context,
  backup: OpenBackup,
  kind: 'fsck' | 'boot',
  result: DrillResult,
  seconds: number,
): ExitStatus {
  const error = errorOf(backup, result);
  const { fsck, boot, damage } = result;
  output.summary(
    () => ({
      ...{ backup: backup.name, drill: kind, ok: error === undefined },
      ...(error === undefined ? {} : { error }),
      ...(fsck === undefined ? {} : { disks: fsck.map(diskDocument) }),
      ...(boot === undefined ? {} : { boot: bootDocument(boot) }),
      damaged: damage.map((each) => ({ disk: each.disk, ...describeError(each.error) })),
      seconds,
    }),
    () => asText(output.paint, backup, result, seconds),
  );
  if (error !== undefined && !output.json) output.error(renderError(command, error));
  return error?.exit ?? EXIT.done;
}

function bootDocument({ line, problem, bootSeconds, console, accelerator }: Booted) {
  return {
    ...(line === undefined ? {} : { line }),
    ...(problem === undefined ? {} : { problem }),
    ...{ accelerator, seconds: bootSeconds, console },
  };
}

function diskDocument({ name, table, problem, partitions }: FsckedDisk) {
  return {
    ...{ name, table },
    ...(problem === undefined ? {} : { problem }),
    partitions: partitions.map(({ number, offsetBytes, lengthBytes, ...rest }) => {
      return { partition: number, offset: offsetBytes, length: lengthBytes, ...rest };
    }),
  };
}

function asText(paint: Paint, backup: OpenBackup, { ok, fsck, boot }: DrillResult, seconds: number): string {
  const lines: string[] = [];
  if (fsck !== undefined) lines.push(tableOf(paint, fsck));
  for (const { name, partitions } of fsck ?? []) {
    for (const { number, output = [] } of partitions) {
      if (output.length > 0) lines.push('', `${partitionName(name, number)}:`);
      lines.push(...output.map((line) => `  ${printable(line)}`));
    }
  }
  if (boot !== undefined && !boot.ok) {
    lines.push(boot.console.length === 0 ? 'its console said nothing' : 'the end of its console:');
    lines.push(...boot.console.map((line) => `  ${printable(line)}`));
  }
  if (boot?.line !== undefined)
    lines.push(`it came up after ${humanDuration(boot.bootSeconds)}: ${printable(boot.line)}`);
  const end = ok ? paint('green', 'passed') : paint('red', 'failed');
  lines.push(`${printable(backup.name)} ${end} in ${humanDuration(seconds)}`);
  return lines.filter((line, index) => line !== '' || index > 0).join('\n');
}

function tableOf(paint: Paint, disks: readonly FsckedDisk[]): string {
  const columns = [
    { title: 'partition' },
    { title: 'size', align: 'right' as const },
    { title: 'holds' },
    { title: '' },
    { title: '' },
  ];
  const rows = disks.flatMap(({ name, table, problem, partitions }) => {
    const own = problem === undefined ? [] : [[name, '', table.toUpperCase(), paint('red', 'broken'), problem]];
    return [
      ...own,
      ...partitions.map(({ number, lengthBytes, fileSystem, result, replayed, problem: why }) => {
        const shown = result === 'failed' ? paint('red', result) : result;
        const remark = why ?? (replayed ? 'after its journal was replayed' : '');
        return [partitionName(name, number), humanSize(lengthBytes), fileSystem, shown, remark];
      }),
    ];
  });
  return renderTable(paint, columns, rows);
}

/** For `vmar status` and `vmar report`. That it cannot be kept changes nothing of the drill, and is said. */
export async function keepDrillReport(
  context: Context,
  backup: OpenBackup,
  result: DrillResult | undefined,
  problem: DescribedError | undefined,
  startedMillis: number,
): Promise<void> {
  if (!(backup.source instanceof DatastoreChunks)) return;
  const error = problem ?? (result === undefined ? undefined : errorOf(backup, result));
  const outcome: JobOutcome = error === undefined ? 'ok' : 'failed';
  const ended = {
    ...{ outcome, startedMillis, finishedMillis: Math.max(startedMillis, Date.now()) },
    ...{ errorCode: error?.code ?? '', error: error?.message ?? '' },
  };
  const counts = { sizeBytes: 0, readBytes: 0, zeroBytes: 0, unchangedBytes: 0, newBytes: 0, storedBytes: 0 };
  const sizeBytes = diskBytes(backup.manifest);
  const report: JobReport = {
    ...{ job: 'drill', kind: 'drill', host: hostname(), writer: WRITER_NAME, ...ended },
    guests: [{ guest: formatGuest(backup.manifest), backup: backup.name, attempts: 1, ...ended, ...counts, sizeBytes }],
    ...{ steps: [], warnings: [] },
  };
  try {
    await withStore(context, async (store) => {
      await writeReport(store, newReportPath(store.root, startedMillis), report);
    });
  } catch (failure) {
    if (!(failure instanceof VmarError)) throw failure;
    context.log.warn(`no report of the drill is kept: ${failure.message}`);
  }
}
