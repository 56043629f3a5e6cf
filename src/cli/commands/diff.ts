// SPDX-License-Identifier: MIT
// vmar diff

import type { ManifestDisk } from '../../../formats/vmar/manifest.js';
import { ChunkReader } from '../../archive/chunk-reader.js';
import { type ChangedExtent, diffDisks } from '../../archive/diff.js';
import { MapReader } from '../../archive/map-reader.js';
import { EXIT, type ExitStatus, UsageError } from '../../base/errors.js';
import { formatGuest, sameGuest } from '../../store/backup-id.js';
import type { Context } from '../context.js';
import { humanSize } from '../human.js';
import { type OpenBackup, withBackups } from '../open-named-backup.js';
import { isArchiveName } from '../parse-backup-name.js';
import { renderTable } from '../table.js';

interface DiskDiff {
  readonly name: string;
  readonly extents: readonly ChangedExtent[];
}

/** Names of disks that the other one has not. */
interface OnlyIn {
  readonly a: readonly string[];
  readonly b: readonly string[];
}

export async function run(context: Context, names: { readonly a: string; readonly b: string }): Promise<ExitStatus> {
  return await withBackups(context, [names.a, names.b], async ([a, b]) => {
    if (![names.a, names.b].some(isArchiveName)) requireSameGuest(a!, b!);
    const disks = await compare(a!, b!);
    const onlyIn = { a: lacking(a!, b!), b: lacking(b!, a!) };
    context.output.result(
      () => asDocument(a!, b!, disks, onlyIn),
      () => asText(context, disks, onlyIn),
    );
    return EXIT.done;
  });
}

function requireSameGuest(a: OpenBackup, b: OpenBackup): void {
  if (sameGuest(a.manifest, b.manifest)) return;
  throw new UsageError('other-guest', 'the backups are of different guests', {
    found: `${formatGuest(a.manifest)} and ${formatGuest(b.manifest)}`,
  });
}

async function compare(a: OpenBackup, b: OpenBackup): Promise<DiskDiff[]> {
  const chunks = { a: new ChunkReader(a.source), b: new ChunkReader(b.source) };
  const disks: DiskDiff[] = [];
  for (const disk of a.manifest.disks) {
    const other = b.manifest.disks.find(({ name }) => name === disk.name);
    if (other === undefined) continue;
    requireSameShape(a, b, disk, other);
    const [mapA, mapB] = [mapOf(a, disk, chunks.a), mapOf(b, other, chunks.b)];
    const extents = await diffDisks(
      { map: mapA, sizeBytes: disk.sizeBytes },
      { map: mapB, sizeBytes: other.sizeBytes },
      disk.clusterSizeBytes,
    );
    disks.push({ name: disk.name, extents });
  }
  return disks;
}

/** The disks of one that the other has not. */
function lacking(one: OpenBackup, other: OpenBackup): string[] {
  const names = new Set(other.manifest.disks.map(({ name }) => name));
  return one.manifest.disks.map(({ name }) => name).filter((name) => !names.has(name));
}

/** Ids of clusters say something about each other only if they were made alike. */
function requireSameShape(a: OpenBackup, b: OpenBackup, diskA: ManifestDisk, diskB: ManifestDisk): void {
  const [shapeA, shapeB] = [shape(a, diskA), shape(b, diskB)];
  if (shapeA === shapeB) return;
  throw new UsageError('not-comparable', 'the backups were made in different ways and cannot be compared', {
    object: diskA.name,
    found: `${shapeA} and ${shapeB}`,
    advice: 'Restore both and compare the images.',
  });
}

function shape({ manifest }: OpenBackup, disk: ManifestDisk): string {
  return `${manifest.hash} over ${humanSize(disk.clusterSizeBytes)} in maps of ${manifest.mapFanout}`;
}

function mapOf({ manifest }: OpenBackup, disk: ManifestDisk, chunks: ChunkReader): MapReader {
  const { mapRoot: root, sizeBytes, clusterSizeBytes } = disk;
  return new MapReader(chunks, { root, sizeBytes, clusterSizeBytes, fanout: manifest.mapFanout });
}

function asDocument(a: OpenBackup, b: OpenBackup, disks: readonly DiskDiff[], onlyIn: OnlyIn) {
  return {
    a: a.name,
    b: b.name,
    disks: disks.map(({ name, extents }) => ({
      name,
      changedBytes: changedBytes(extents),
      extents: extents.map(({ offsetBytes, lengthBytes }) => ({ offset: offsetBytes, length: lengthBytes })),
    })),
    ...(onlyIn.a.length + onlyIn.b.length > 0 ? { onlyIn } : {}),
  };
}

function changedBytes(extents: readonly ChangedExtent[]): number {
  return extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
}

function asText({ output }: Context, disks: readonly DiskDiff[], onlyIn: OnlyIn): string {
  const rows = [
    ...disks.map(({ name, extents }) => [name, humanSize(changedBytes(extents)), String(extents.length)]),
    ...onlyIn.a.map((name) => [name, 'only in the first', '']),
    ...onlyIn.b.map((name) => [name, 'only in the second', '']),
  ];
  const columns = [
    { title: 'disk' },
    { title: 'changed', align: 'right' as const },
    { title: 'extents', align: 'right' as const },
  ];
  const lines = disks.flatMap(({ name, extents }) =>
    extents.map(({ offsetBytes, lengthBytes }) => `${name}   ${offsetBytes} + ${lengthBytes}`),
  );
  const table = renderTable(output.paint, columns, rows);
  return lines.length === 0 ? table : [table, '', ...lines].join('\n');
}
