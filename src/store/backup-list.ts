// SPDX-License-Identifier: MIT
// The backups of a datastore with what may change about them: what list shows, and prune and status judge by.

import { VmarError } from '../base/errors.js';
import { compareBackups, type GuestRef } from './backup-id.js';
import { sidecarPath } from './layout.js';
import { type LostPlace, listManifestNames, type WalkOptions } from './manifest-tree.js';
import { type DamagedManifest, readManifests, type StoredManifest } from './manifests.js';
import { readSidecar } from './sidecars.js';

export interface ListedBackup extends StoredManifest {
  readonly isProtected: boolean;
  /** "" for none. */
  readonly notes: string;
}

export interface BackupList {
  /** Ordered by namespace, guest and time, as `damaged` is. */
  readonly backups: readonly ListedBackup[];
  /** Backups whose manifest or sidecar cannot be read. Nobody can say whether they are protected. */
  readonly damaged: readonly DamagedManifest[];
  /** Paths in the tree that are none of ours. */
  readonly strange: readonly string[];
  /** Paths in the tree where backups may have been that nobody can see now. */
  readonly lost: readonly LostPlace[];
}

/** Reads and checks every manifest and sidecar, or those of one guest. What is damaged is reported and stops nothing. */
export async function listBackups(root: string, guest?: GuestRef, options: WalkOptions = {}): Promise<BackupList> {
  const { backups: refs, withSidecar, strange, lost } = await listManifestNames(root, guest, options);
  const { entries, damaged } = await readManifests(root, refs);
  const backups: ListedBackup[] = [];
  for (const entry of entries) {
    const { ref, digest } = entry;
    try {
      // Most have none, and to find a file missing costs more than to read one.
      const sidecar = withSidecar.has(ref) ? await readSidecar(root, ref, digest) : undefined;
      backups.push({ ...entry, isProtected: sidecar?.isProtected === true, notes: sidecar?.notes ?? '' });
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      damaged.push({ ref, path: sidecarPath(root, ref), error });
    }
  }
  return { backups, damaged: damaged.sort((a, b) => compareBackups(a.ref, b.ref)), strange, lost };
}
