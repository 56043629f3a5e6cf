// SPDX-License-Identifier: MIT
// What a sink knows of a backup when its last cluster is in, as the manifest will say it.

import type { ManifestDisk } from '../../formats/vmar/manifest.js';
import { type BackupDescription, PARENT_UNUSABLE } from '../plugin-api.js';
import type { DiskIntake } from './disk-intake.js';
import type { ManifestDraft, Vault } from './vault.js';

export interface MadeWhen {
  /** The backup's own time. */
  readonly timeSeconds: number;
  /** When the sink began. */
  readonly startedMillis: number;
}

/** `disks` and `roots`, the ids of their maps' root pages, are in the order of the description. */
export function draftManifest(
  backup: BackupDescription,
  vault: Pick<Vault, 'hash' | 'fanout' | 'clusterSizeBytes'>,
  disks: readonly DiskIntake[],
  roots: readonly Uint8Array[],
  made: MadeWhen,
): ManifestDraft {
  return {
    namespace: backup.namespace,
    guestType: 'vm',
    guestId: backup.guestId,
    guestName: backup.guestName ?? '',
    guestUuid: backup.guestUuid ?? new Uint8Array(0),
    source: backup.source,
    sourceUuid: backup.sourceUuid ?? new Uint8Array(0),
    disks: disks.map((disk, index) => draftDisk(backup, vault.clusterSizeBytes, disk, index, roots[index]!)),
    configs: backup.configs,
    consistency: backup.consistency,
    hash: vault.hash,
    mapFanout: vault.fanout,
    ...made,
  };
}

function draftDisk(
  backup: BackupDescription,
  clusterSizeBytes: number,
  disk: DiskIntake,
  index: number,
  mapRoot: Uint8Array,
): ManifestDisk {
  const { name, sizeBytes, ...counts } = disk.counts();
  const { kind, bitmapName = '', restsOnParent, forceShared = false, ...described } = backup.disks[index]!;
  const isRead = restsOnParent === true && disk.parent === undefined;
  const fullReason = isRead ? PARENT_UNUSABLE : (described.fullReason ?? '');
  return { name, kind, sizeBytes, clusterSizeBytes, mapRoot, bitmapName, fullReason, forceShared, ...counts };
}
