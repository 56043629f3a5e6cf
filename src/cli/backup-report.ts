// SPDX-License-Identifier: MIT
// What a backup tells when it is done.

import type { DiskCounts, DumpResult } from '../plugin-api.js';
import type { BackupWish } from './backup-wish.js';
import type { Context } from './context.js';
import { humanDuration, humanRate, humanSize } from './human.js';
import type { Paint } from './paint.js';
import { printable } from './printable.js';
import { renderTable } from './table.js';

export function tellBackup({ output }: Context, wish: BackupWish, result: DumpResult, seconds: number): void {
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

function asDocument({ backup, disks }: DumpResult, seconds: number) {
  return {
    backup,
    disks: disks.map((disk) => ({
      name: disk.name,
      size: disk.sizeBytes,
      read: disk.readBytes,
      zero: disk.zeroBytes,
      unchanged: disk.unchangedBytes,
      new: disk.newBytes,
      stored: disk.storedBytes,
    })),
    seconds,
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

function asText(paint: Paint, { backup, disks }: DumpResult, seconds: number): string {
  const rows = disks.map((disk) => [disk.name, ...COUNTS.map(([, count]) => humanSize(count(disk)))]);
  const columns = [{ title: 'disk' }, ...COUNTS.map(([title]) => ({ title, align: 'right' as const }))];
  const readBytes = disks.reduce((sum, disk) => sum + disk.readBytes, 0);
  const name = backup === '-' ? 'archive' : printable(backup);
  const close = `${name} done in ${humanDuration(seconds)}, ${humanRate(readBytes, seconds)} read`;
  return `${renderTable(paint, columns, rows)}\n${close}`;
}
