// SPDX-License-Identifier: MIT
// What a backup tells when it is done.

import type { DiskCounts } from '../plugin-api.js';
import type { LiveFacts } from './backup-input.js';
import type { BackupWish } from './backup-wish.js';
import type { Context } from './context.js';
import { humanDuration, humanRate, humanSize } from './human.js';
import type { Paint } from './paint.js';
import { printable } from './printable.js';
import type { Backup } from './run-backup.js';
import { renderTable } from './table.js';

export function tellBackup({ output }: Context, wish: BackupWish, result: Backup, seconds: number): void {
  // Standard output is the archive.
  if (wish.target.kind === 'archive' && wish.target.place.kind === 'standard-output')
    output.notice(asText((_style, text) => text, result, seconds));
  else {
    output.summary(
      () => asDocument(result, seconds),
      () => asText(output.paint, result, seconds),
    );
  }
}

function asDocument({ backup, disks, described, live }: Backup, seconds: number) {
  return {
    backup,
    disks: disks.map((disk, at) => ({
      name: disk.name,
      ...withKind(described[at]),
      size: disk.sizeBytes,
      read: disk.readBytes,
      zero: disk.zeroBytes,
      unchanged: disk.unchangedBytes,
      new: disk.newBytes,
      stored: disk.storedBytes,
      ...withReason(described[at]),
    })),
    ...(live === undefined ? {} : ofGuest(live)),
    seconds,
  };
}

type Described = Backup['described'][number] | undefined;

function withKind(described: Described): { readonly kind?: string } {
  return described === undefined || described.kind === 'disk' ? {} : { kind: described.kind };
}

function withReason(described: Described): { readonly fullReason?: string } {
  return described?.fullReason === undefined ? {} : { fullReason: described.fullReason };
}

function ofGuest({ consistency, pausedMicros, skipped, notKept }: LiveFacts) {
  return {
    consistency,
    pauseSeconds: pausedMicros / 1e6,
    skipped: skipped.map(({ name, reason }) => ({ name, reason })),
    notKept: notKept.map(({ kind, name, path }) => ({ kind, name, ...(path === undefined ? {} : { path }) })),
  };
}

const COUNTS = [
  ['size', (disk: DiskCounts) => disk.sizeBytes],
  ['read', (disk: DiskCounts) => disk.readBytes],
  ['zero', (disk: DiskCounts) => disk.zeroBytes],
  ['unchanged', (disk: DiskCounts) => disk.unchangedBytes],
  ['new', (disk: DiskCounts) => disk.newBytes],
  ['stored', (disk: DiskCounts) => disk.storedBytes],
] as const;

function asText(paint: Paint, { backup, disks, described, live }: Backup, seconds: number): string {
  const rows = disks.map((disk) => [disk.name, ...COUNTS.map(([, count]) => humanSize(count(disk)))]);
  const columns = [{ title: 'disk' }, ...COUNTS.map(([title]) => ({ title, align: 'right' as const }))];
  const readBytes = disks.reduce((sum, disk) => sum + disk.readBytes, 0);
  const name = backup === '-' ? 'archive' : printable(backup);
  const close = `${name} done in ${humanDuration(seconds)}, ${humanRate(readBytes, seconds)} read`;
  return [renderTable(paint, columns, rows), ...remarks(described, live), close].join('\n');
}

function remarks(described: Backup['described'], live: LiveFacts | undefined): string[] {
  const full = described.flatMap(({ name, fullReason }) =>
    fullReason === undefined ? [] : [`${name} was read in full: ${printable(fullReason)}`],
  );
  if (live === undefined) return full;
  const millis = (live.pausedMicros / 1000).toFixed(1);
  const stood = live.pausedMicros > 0 ? `stood still for ${millis} ms` : 'was not paused';
  const kinds = { 'agent-frozen': 'its file systems frozen', crash: 'crash-consistent', offline: 'off' };
  return [...full, `the guest ${stood}, ${kinds[live.consistency]}`];
}
