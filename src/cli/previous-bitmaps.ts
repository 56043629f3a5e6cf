// SPDX-License-Identifier: MIT
// On which bitmaps a backup of a running guest can rest: those that follow the guest's latest backup in the datastore.

import { randomBytes } from 'node:crypto';
import type { Manifest } from '../../formats/vmar/manifest.js';
import { toHex } from '../base/bytes.js';
import { VmarError } from '../base/errors.js';
import type { BitmapWish, GuestDisk, SnapshotWish } from '../plugin-api.js';
import { formatBackupId, formatGuest, type GuestRef } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import { latestBackup, readManifest } from '../store/manifests.js';

/** The caller holds the guest's lock. */
export async function previousBitmaps(
  store: Datastore,
  guest: GuestRef,
  disks: readonly GuestDisk[],
  distrust: string | undefined,
): Promise<NonNullable<SnapshotWish['bitmaps']>> {
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
  return { prefix, name: `${prefix}${randomBytes(8).toString('hex')}`, previous };
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
