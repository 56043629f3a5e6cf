// SPDX-License-Identifier: MIT
// On which bitmaps a backup of a running guest can rest: those that follow the guest's latest backup in the datastore.

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { Manifest } from '../../formats/vmar/manifest.js';
import { DatastoreChunks } from '../archive/datastore-chunks.js';
import { type LostRange, lostRanges, ParentDamage } from '../archive/parent-damage.js';
import { toHex } from '../base/bytes.js';
import { VmarError } from '../base/errors.js';
import { SILENT } from '../base/log.js';
import type { BitmapWish, GuestDisk, SnapshotWish } from '../plugin-api.js';
import { packsNow } from '../store/backup-health.js';
import { formatBackupId, formatGuest, type GuestRef } from '../store/backup-id.js';
import { readDamage } from '../store/damage-list.js';
import type { Datastore } from '../store/datastore.js';
import { EMPTY_RECORD } from '../store/gc/fossil-record.js';
import { readRecord } from '../store/gc/pack-state.js';
import { packPath } from '../store/layout.js';
import { latestBackup, readManifest } from '../store/manifests.js';

export interface PreviousBitmaps {
  readonly bitmaps: NonNullable<SnapshotWish['bitmaps']>;
  /** By disk: what must be read again although it did not change, since the latest backup is damaged there. */
  readonly damaged: ReadonlyMap<string, readonly LostRange[]>;
}

/** The caller holds the guest's lock, and a session. */
export async function previousBitmaps(
  store: Datastore,
  guest: GuestRef,
  disks: readonly GuestDisk[],
  distrust: string | undefined,
): Promise<PreviousBitmaps> {
  // No part of it holds a colon, so no guest's prefix begins another's.
  const prefix = `vmar:${toHex(store.superblock.storeUuid)}:${formatGuest(guest)}:`;
  const parent = await readParent(store, guest, distrust);
  const previous = new Map<string, BitmapWish>();
  if (parent !== undefined) {
    for (const disk of disks)
      previous.set(
        disk.name,
        typeof parent === 'string' ? { fullReason: parent } : wishFor(store, parent, disk, prefix),
      );
  }
  const damaged = typeof parent === 'object' ? await damagedRanges(store, parent, previous) : new Map();
  return { bitmaps: { prefix, name: `${prefix}${randomBytes(8).toString('hex')}`, previous }, damaged };
}

/** Where all of the parent is in doubt, disks are read in full: `previous` says so then. */
async function damagedRanges(
  store: Datastore,
  parent: Manifest,
  previous: Map<string, BitmapWish>,
): Promise<Map<string, readonly LostRange[]>> {
  const ranges = new Map<string, readonly LostRange[]>();
  if ((await readDamage(store.root, SILENT)).isEmpty) return ranges;
  const chunks = await DatastoreChunks.open(store);
  try {
    const { successors } = await readRecord(store.root).catch(() => EMPTY_RECORD);
    const packs = [...packsNow(parent.packs, successors, (packId) => existsSync(packPath(store.root, packId)))];
    const { fault } = ParentDamage.of(chunks, chunks.damage, packs);
    for (const [disk, wish] of previous) {
      if ('fullReason' in wish) continue;
      if (fault !== undefined) previous.set(disk, { fullReason: `the last backup is damaged: ${fault}` });
      else ranges.set(disk, await lostRanges(chunks, parent, disk, packs));
    }
    return ranges;
  } finally {
    await chunks.close();
  }
}

/** Undefined: it is the guest's first backup. A text: why the latest is of no use. */
async function readParent(
  store: Datastore,
  guest: GuestRef,
  distrust: string | undefined,
): Promise<Manifest | string | undefined> {
  const latest = await latestBackup(store.root, guest);
  if (latest === undefined) return undefined;
  if (distrust !== undefined) return `the last backup, ${formatBackupId(latest)}, is damaged: ${distrust}`;
  try {
    return (await readManifest(store.root, latest)).manifest;
  } catch (error) {
    if (error instanceof VmarError)
      return `the last backup, ${formatBackupId(latest)}, cannot be read: ${error.message}`;
    throw error;
  }
}

function wishFor({ superblock }: Datastore, parent: Manifest, disk: GuestDisk, prefix: string): BitmapWish {
  const before = parent.disks.find(({ name }) => name === disk.name);
  if (before === undefined) return { fullReason: 'the disk is not in the last backup' };
  if (before.sizeBytes !== disk.sizeBytes) return { fullReason: 'the disk was resized since the last backup' };
  const { clusterSizeBytes, hash } = superblock;
  if (before.clusterSizeBytes !== clusterSizeBytes || parent.hash !== hash) {
    return { fullReason: 'the last backup was made with other parameters' };
  }
  if (before.bitmapName === '') return { fullReason: 'no dirty bitmap follows the last backup' };
  if (!before.bitmapName.startsWith(prefix)) return { fullReason: 'the last backup is from another datastore' };
  return { name: before.bitmapName };
}
