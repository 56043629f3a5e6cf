// SPDX-License-Identifier: MIT
// What makes two backups one: an archive of a backup, taken into a datastore again, is the backup that it was.

import { createHash } from 'node:crypto';
import type { Manifest } from '../../formats/vmar/manifest.js';
import { bytesEqual, toHex } from '../base/bytes.js';

/**
 * 16 bytes over the guest, the time and all content. What was imported keeps the UUID of what it came from, through any
 * number of exports.
 */
export function backupIdentity(manifest: Manifest): Uint8Array {
  if (manifest.sourceUuid.byteLength > 0) return manifest.sourceUuid;
  const { namespace, guestType, guestId, timeSeconds, disks, configs } = manifest;
  const told = {
    guest: [namespace, guestType, guestId, timeSeconds],
    hash: [manifest.hash, manifest.mapFanout],
    disks: disks.map((disk) => [disk.name, disk.kind, disk.sizeBytes, disk.clusterSizeBytes, toHex(disk.mapRoot)]),
    configs: configs.map(({ name, content }) => [name, createHash('sha256').update(content).digest('hex')]),
  };
  return Uint8Array.from(createHash('sha256').update(JSON.stringify(told)).digest().subarray(0, 16));
}

export function isSameBackup(manifest: Manifest, identity: Uint8Array): boolean {
  return bytesEqual(backupIdentity(manifest), identity);
}
