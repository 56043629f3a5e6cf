// SPDX-License-Identifier: MIT
// vmar list

import { diskBytes } from '../../../formats/vmar/manifest.js';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import { compareBackups, formatBackupId } from '../../store/backup-id.js';
import { type BackupList, type ListedBackup, listBackups } from '../../store/backup-list.js';
import { type KnownDamage, readDamage } from '../../store/damage-list.js';
import type { DamagedManifest } from '../../store/manifests.js';
import type { Context } from '../context.js';
import { findGuests } from '../find-guests.js';
import { humanSize, humanTime } from '../human.js';
import { LIST_COLUMNS, listedFacts } from '../list-columns.js';
import { withStore } from '../open-store.js';
import { isArchiveName, isForeignArchive } from '../parse-backup-name.js';
import { printable } from '../printable.js';
import { renderTable } from '../table.js';

export async function run(context: Context, guestText: string | undefined): Promise<ExitStatus> {
  if (guestText !== undefined && isForeignArchive(guestText)) {
    const { listForeign } = await import('../foreign-look.js');
    await listForeign(context, guestText);
    return EXIT.done;
  }
  if (guestText !== undefined && isArchiveName(guestText)) {
    const { listArchive } = await import('../list-archive.js');
    await listArchive(context, guestText);
    return EXIT.done;
  }
  return await withStore(context, async ({ root }) => {
    const guest = guestText === undefined ? undefined : (await findGuests(root, [guestText]))[0];
    const list = await listBackups(root, guest, { isLenient: true });
    const known = await readDamage(root, context.log);
    for (const path of list.strange) context.log.warn(`${printable(path)} does not belong there`);
    for (const { path, error } of list.lost) {
      context.log.warn(`backups may be missing: ${printable(path)}: ${error.message}`);
    }
    context.output.result(
      () => asDocument(list, known),
      () => asTable(context, list, known),
    );
    for (const { path, error } of list.damaged) context.log.warn(`${path}: ${error.message}`);
    return list.damaged.length + list.lost.length > 0 ? EXIT.damage : EXIT.done;
  });
}

function asDocument({ backups, damaged }: BackupList, known: KnownDamage) {
  return {
    backups: backups.map(({ ref, manifest, isProtected, notes }) => ({
      backup: formatBackupId(ref),
      ...listedFacts(manifest),
      protected: isProtected,
      ...(known.isDamaged(formatBackupId(ref)) ? { damaged: true } : {}),
      ...(notes === '' ? {} : { notes }),
    })),
    ...(damaged.length === 0 ? {} : { damaged: damaged.map(damagedDocument) }),
  };
}

function damagedDocument({ ref, path, error }: DamagedManifest) {
  return { backup: formatBackupId(ref), file: path, message: error.message };
}

function asTable({ output }: Context, { backups, damaged }: BackupList, known: KnownDamage): string {
  if (backups.length + damaged.length === 0) return output.quiet ? '' : 'no backups';
  const all: (ListedBackup | DamagedManifest)[] = [...backups, ...damaged];
  const rows = all
    .sort((a, b) => compareBackups(a.ref, b.ref))
    .map((entry) => {
      const start = [formatBackupId(entry.ref), humanTime(entry.ref.timeSeconds)];
      if ('error' in entry) return [...start, '', 'damaged'].map((cell) => output.paint('red', cell));
      const { disks } = entry.manifest;
      const names = disks.map((disk) => disk.name).join(', ');
      const isDamaged = known.isDamaged(formatBackupId(entry.ref));
      const remarks = [...(entry.isProtected ? ['protected'] : []), ...(isDamaged ? ['damaged'] : [])].join(', ');
      const row = [...start, humanSize(diskBytes(entry.manifest)), remarks === '' ? names : `${names} (${remarks})`];
      return isDamaged ? row.map((cell) => output.paint('red', cell)) : row;
    });
  return renderTable(output.paint, LIST_COLUMNS, rows);
}
