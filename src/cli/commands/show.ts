// SPDX-License-Identifier: MIT
// vmar show

import type { Manifest, ManifestDisk } from '../../../formats/vmar/manifest.js';
import { clusterCount, mapLevels } from '../../../formats/vmar/map.js';
import { formatTime } from '../../../formats/vmar/names.js';
import { toHex } from '../../base/bytes.js';
import { EXIT, type ExitStatus, NotFoundError, UsageError } from '../../base/errors.js';
import { formatGuest } from '../../store/backup-id.js';
import type { Context } from '../context.js';
import { counted, humanSize, humanTime } from '../human.js';
import { type BackupFacts, lookAtNamed } from '../open-named-backup.js';
import type { Paint } from '../paint.js';
import { isForeignArchive } from '../parse-backup-name.js';
import { printable } from '../printable.js';
import { renderTable } from '../table.js';

export interface ShowFlags {
  readonly config?: string;
}

export async function run(context: Context, name: string, flags: ShowFlags): Promise<ExitStatus> {
  const { config } = flags;
  if (config !== undefined && context.output.json) {
    throw new UsageError('json-here', 'a configuration file is printed as it is: --json has no place', {
      object: `--config ${config}`,
    });
  }
  if (isForeignArchive(name)) {
    const { showForeign } = await import('../foreign-look.js');
    await showForeign(context, name, config);
    return EXIT.done;
  }
  const backup = await lookAtNamed(context, name);
  if (config === undefined) {
    context.output.result(
      () => asDocument(backup),
      () => asText(context.output.paint, backup),
    );
  } else context.output.bytes(findConfig(backup, config));
  return EXIT.done;
}

function findConfig({ name, manifest }: BackupFacts, wanted: string): Uint8Array {
  const found = manifest.configs.find((config) => config.name === wanted);
  if (found !== undefined) return found.content;
  throw new NotFoundError('no-such-config', `the backup has no configuration file ${printable(wanted)}`, {
    object: name,
    found: manifest.configs.map((config) => config.name).join(', ') || 'none',
  });
}

function asDocument({ name, manifest, sidecar, damagedDisks }: BackupFacts) {
  return {
    backup: name,
    guest: formatGuest(manifest),
    ...(manifest.guestName === '' ? {} : { guestName: manifest.guestName }),
    ...uuid('guestUuid', manifest.guestUuid),
    time: formatTime(manifest.timeSeconds),
    consistency: manifest.consistency,
    source: manifest.source,
    ...uuid('sourceUuid', manifest.sourceUuid),
    writer: manifest.writer,
    sequence: manifest.sequence,
    started: formatMillis(manifest.startedMillis),
    finished: formatMillis(manifest.finishedMillis),
    disks: manifest.disks.map((disk) => ({
      name: disk.name,
      kind: disk.kind,
      size: disk.sizeBytes,
      levels: levelsOf(disk, manifest),
      mapRoot: toHex(disk.mapRoot),
      read: disk.readBytes,
      zero: disk.zeroBytes,
      unchanged: disk.unchangedBytes,
      new: disk.newBytes,
      stored: disk.storedBytes,
      ...(disk.bitmapName === '' ? {} : { bitmap: disk.bitmapName }),
      ...(disk.fullReason === '' ? {} : { fullReason: disk.fullReason }),
      ...(disk.forceShared ? { forceShared: true } : {}),
    })),
    configs: manifest.configs.map((config) => ({ name: config.name, size: config.content.byteLength })),
    labels: Object.fromEntries(sidecar?.labels ?? []),
    notes: sidecar?.notes ?? '',
    protected: sidecar?.isProtected ?? false,
    ...(damagedDisks === undefined ? {} : { damaged: true, damagedDisks }),
    packs: manifest.packs,
  };
}

function uuid<Key extends string>(key: Key, bytes: Uint8Array): { [key in Key]?: string } {
  return bytes.byteLength === 0 ? {} : ({ [key]: toHex(bytes) } as { [key in Key]: string });
}

function formatMillis(millis: number): string {
  return formatTime(Math.floor(millis / 1000));
}

function levelsOf(disk: ManifestDisk, { mapFanout }: Manifest): number {
  return mapLevels(clusterCount(disk.sizeBytes, disk.clusterSizeBytes), mapFanout);
}

function asText(paint: Paint, { name, manifest, sidecar, damagedDisks }: BackupFacts): string {
  const labels = [...(sidecar?.labels ?? [])].map(([key, value]) => `${key}=${value}`);
  const configs = manifest.configs.map((config) => `${config.name} (${humanSize(config.content.byteLength)})`);
  const facts: [title: string, value: string][] = [
    ['backup', name],
    ['guest', formatGuest(manifest)],
    ['time', humanTime(manifest.timeSeconds)],
    ['consistency', manifest.consistency],
    ['source', manifest.source],
    ['writer', manifest.writer],
    ['configs', configs.join(', ')],
    ['labels', labels.join(', ')],
    ['notes', sidecar?.notes ?? ''],
    ['protected', sidecar?.isProtected === true ? 'yes' : ''],
    ['packs', manifest.packs.length > 0 ? counted(manifest.packs.length, 'pack') : ''],
  ];
  const told = facts.filter(([, value]) => value !== '');
  const lines = told.map(([title, value]) => `${paint('bold', title.padEnd(11))}   ${printable(value)}`);
  const damaged = damagedDisks === undefined ? [] : [paint('red', damagedText(damagedDisks))];
  return [...lines, ...damaged, '', diskTable(paint, manifest), ...remarks(manifest.disks)].join('\n');
}

function damagedText(disks: readonly string[]): string {
  const what = disks.length > 0 ? `disk ${disks.join(', ')}` : 'parts of it';
  return `${'DAMAGED'.padEnd(11)}   ${what}; see \`vmar verify\``;
}

function diskTable(paint: Paint, { disks }: Manifest): string {
  const rows = disks.map((disk) => [
    disk.name,
    disk.kind,
    ...[disk.sizeBytes, disk.readBytes, disk.zeroBytes, disk.unchangedBytes, disk.newBytes, disk.storedBytes].map(
      humanSize,
    ),
  ]);
  const sizes = ['size', 'read', 'zero', 'unchanged', 'new', 'stored'];
  const columns = [{ title: 'disk' }, { title: 'kind' }, ...sizes.map((title) => ({ title, align: 'right' as const }))];
  return renderTable(paint, columns, rows);
}

function remarks(disks: readonly ManifestDisk[]): string[] {
  return disks.flatMap((disk) => [
    ...(disk.fullReason === '' ? [] : [`${disk.name} was read in full: ${printable(disk.fullReason)}`]),
    ...(disk.forceShared ? [`${disk.name} was read although another process had it locked`] : []),
  ]);
}
