// SPDX-License-Identifier: MIT
// Where disks changed from backup to backup: each pair of neighbours is compared by its maps, in time proportional to the
// difference, and what differs is counted by regions of the disk.

import type { Manifest, ManifestDisk } from '../../../formats/vmar/manifest.js';
import { divideUp } from '../../base/checked.js';
import { VmarError } from '../../base/errors.js';
import type { BackupRef, GuestRef } from '../../store/backup-id.js';
import type { StoredManifest } from '../../store/manifests.js';
import { type ChangedExtent, diffDisks } from '../diff.js';
import { MapReader } from '../map-reader.js';
import type { OpenMaps } from './open-maps.js';

/** What changed between a backup of a disk and the one before. */
export interface DiskChange {
  readonly ref: BackupRef;
  /** 'first': there is none before; 'other': it was made in another way; 'lost': a map cannot be read. */
  readonly state: 'compared' | 'first' | 'other' | 'lost';
  readonly changedBytes: number;
  /** By region, 0 to 1; empty unless compared. */
  readonly shares: readonly number[];
}

export interface DiskChanges {
  readonly guest: GuestRef;
  readonly disk: string;
  readonly sizeBytes: number;
  readonly regionBytes: number;
  /** Ordered by time. */
  readonly changes: readonly DiskChange[];
}

export interface ChangesOptions {
  /** The last so many backups. */
  readonly mostBackups: number;
  /** At most so many regions; whole clusters each. */
  readonly mostRegions: number;
  readonly signal?: AbortSignal;
}

/** The disks of the last backup of a guest, in its order. `backups` are all of the guest's, ordered by time. */
export async function changesOfGuest(
  maps: OpenMaps,
  backups: readonly StoredManifest[],
  options: ChangesOptions,
): Promise<DiskChanges[]> {
  const last = backups.at(-1);
  if (last === undefined) return [];
  // One more than is shown, to compare the first with.
  const shown = backups.slice(-options.mostBackups - 1);
  const all: DiskChanges[] = [];
  for (const { name, kind, sizeBytes, clusterSizeBytes } of last.manifest.disks) {
    if (kind !== 'disk' || sizeBytes === 0) continue;
    const clusters = divideUp(sizeBytes, clusterSizeBytes);
    const regionBytes = divideUp(clusters, options.mostRegions) * clusterSizeBytes;
    const regions = { sizeBytes, regionBytes };
    const changes: DiskChange[] = [];
    for (const [index, entry] of shown.entries()) {
      options.signal?.throwIfAborted();
      const before = shown[index - 1];
      if (before === undefined && shown.length < backups.length) continue;
      const change = await changeOf(maps, name, before?.manifest, entry, regions);
      if (change !== undefined) changes.push(change);
    }
    if (changes.length > options.mostBackups) changes.shift();
    all.push({ guest: last.ref, disk: name, ...regions, changes });
  }
  return all;
}

interface Regions {
  readonly sizeBytes: number;
  readonly regionBytes: number;
}

/** undefined where the backup has no such disk. */
async function changeOf(
  maps: OpenMaps,
  name: string,
  before: Manifest | undefined,
  { ref, manifest }: StoredManifest,
  regions: Regions,
): Promise<DiskChange | undefined> {
  const disk = diskOf(manifest, name);
  if (disk === undefined) return undefined;
  const old = before === undefined ? undefined : diskOf(before, name);
  const without = (state: DiskChange['state']): DiskChange => ({ ref, state, changedBytes: 0, shares: [] });
  if (before === undefined || old === undefined) return without('first');
  const isAlike =
    before.hash === manifest.hash &&
    before.mapFanout === manifest.mapFanout &&
    old.clusterSizeBytes === disk.clusterSizeBytes;
  if (!isAlike) return without('other');
  try {
    const extents = await diffDisks(
      { map: mapOf(maps, before, old), sizeBytes: old.sizeBytes },
      { map: mapOf(maps, manifest, disk), sizeBytes: disk.sizeBytes },
      disk.clusterSizeBytes,
    );
    const changedBytes = extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    return { ref, state: 'compared', changedBytes, shares: sharesOf(extents, regions) };
  } catch (error) {
    if (!(error instanceof VmarError)) throw error;
    return without('lost');
  }
}

function diskOf(manifest: Manifest, name: string): ManifestDisk | undefined {
  return manifest.disks.find((disk) => disk.name === name);
}

function mapOf(maps: OpenMaps, { mapFanout: fanout }: Manifest, disk: ManifestDisk): MapReader {
  const { mapRoot: root, sizeBytes, clusterSizeBytes } = disk;
  return new MapReader(maps, { root, sizeBytes, clusterSizeBytes, fanout });
}

/** Which part of each region the extents cover; what is behind the end of the disk is left out. */
export function sharesOf(extents: readonly ChangedExtent[], { sizeBytes, regionBytes }: Regions): number[] {
  const changed = Array.from({ length: divideUp(sizeBytes, regionBytes) }, () => 0);
  for (const { offsetBytes, lengthBytes } of extents) {
    const end = Math.min(sizeBytes, offsetBytes + lengthBytes);
    for (let at = offsetBytes; at < end; ) {
      const region = Math.floor(at / regionBytes);
      const stop = Math.min(end, (region + 1) * regionBytes);
      changed[region]! += stop - at;
      at = stop;
    }
  }
  return changed.map((bytes, region) => bytes / Math.min(regionBytes, sizeBytes - region * regionBytes));
}
