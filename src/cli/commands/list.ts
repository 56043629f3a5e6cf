// SPDX-License-Identifier: MIT
// vmar list

import { formatTime } from '../../../formats/vmar/names.js';
import { EXIT, type ExitStatus, VmarError } from '../../base/errors.js';
import { compareBackups, formatBackupId, formatGuest, type GuestRef, resolveGuest } from '../../store/backup-id.js';
import { sidecarPath } from '../../store/layout.js';
import { listManifestNames } from '../../store/manifest-tree.js';
import { type DamagedManifest, listManifests, type StoredManifest } from '../../store/manifests.js';
import { readSidecar } from '../../store/sidecars.js';
import type { Context } from '../context.js';
import { humanSize, humanTime } from '../human.js';
import { withStore } from '../open-store.js';
import { printable } from '../printable.js';
import { renderTable } from '../table.js';

interface Listed extends StoredManifest {
  readonly isProtected: boolean;
}

interface BackupList {
  /** Ordered by guest, then time. */
  readonly backups: readonly Listed[];
  readonly damaged: readonly DamagedManifest[];
}

export async function run(context: Context, guestText: string | undefined): Promise<ExitStatus> {
  return await withStore(context, async ({ root }) => {
    const guest = guestText === undefined ? undefined : await findGuest(root, guestText);
    const { entries, damaged, strange } = await listManifests(root, guest);
    for (const path of strange) context.log.warn(`${printable(path)} does not belong there`);
    const list = await withSidecars(root, entries, damaged);
    context.output.result(
      () => asDocument(list),
      () => asTable(context, list),
    );
    for (const { path, error } of list.damaged) context.log.warn(`${path}: ${error.message}`);
    return list.damaged.length > 0 ? EXIT.damage : EXIT.done;
  });
}

async function findGuest(root: string, text: string): Promise<GuestRef> {
  const { backups } = await listManifestNames(root);
  const guests = new Map(backups.map((backup) => [formatGuest(backup), backup]));
  return resolveGuest(text, [...guests.values()]);
}

/** A backup whose sidecar is damaged is listed as damaged: nobody can say whether it is protected. */
async function withSidecars(
  root: string,
  entries: readonly StoredManifest[],
  damaged: readonly DamagedManifest[],
): Promise<BackupList> {
  const backups: Listed[] = [];
  const spoilt: DamagedManifest[] = [...damaged];
  for (const entry of entries) {
    try {
      const sidecar = await readSidecar(root, entry.ref, entry.digest);
      backups.push({ ...entry, isProtected: sidecar?.isProtected === true });
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      spoilt.push({ ref: entry.ref, path: sidecarPath(root, entry.ref), error });
    }
  }
  return { backups, damaged: spoilt.sort((a, b) => compareBackups(a.ref, b.ref)) };
}

function asDocument({ backups, damaged }: BackupList) {
  return {
    backups: backups.map(({ ref, manifest, isProtected }) => ({
      backup: formatBackupId(ref),
      guest: formatGuest(ref),
      time: formatTime(ref.timeSeconds),
      size: sizeOf(manifest),
      disks: manifest.disks.map(({ name, sizeBytes }) => ({ name, size: sizeBytes })),
      protected: isProtected,
    })),
    ...(damaged.length === 0 ? {} : { damaged: damaged.map(damagedDocument) }),
  };
}

function damagedDocument({ ref, path, error }: DamagedManifest) {
  return { backup: formatBackupId(ref), file: path, message: error.message };
}

function sizeOf(manifest: StoredManifest['manifest']): number {
  return manifest.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0);
}

function asTable({ output }: Context, { backups, damaged }: BackupList): string {
  if (backups.length + damaged.length === 0) return output.quiet ? '' : 'no backups';
  const all: (Listed | DamagedManifest)[] = [...backups, ...damaged];
  const rows = all
    .sort((a, b) => compareBackups(a.ref, b.ref))
    .map((entry) => {
      const start = [formatBackupId(entry.ref), humanTime(entry.ref.timeSeconds)];
      if ('error' in entry) return [...start, '', 'damaged'].map((cell) => output.paint('red', cell));
      const { disks } = entry.manifest;
      const names = disks.map((disk) => disk.name).join(', ');
      return [...start, humanSize(sizeOf(entry.manifest)), entry.isProtected ? `${names} (protected)` : names];
    });
  const columns = [
    { title: 'backup' },
    { title: 'time' },
    { title: 'size', align: 'right' as const },
    { title: 'disks' },
  ];
  return renderTable(output.paint, columns, rows);
}
