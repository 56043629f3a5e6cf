// SPDX-License-Identifier: MIT
// Puts labels on a backup that was just made.

import { BugError } from '../base/errors.js';
import { parseBackupId } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import { lockGuest } from '../store/locks.js';
import { readManifest } from '../store/manifests.js';
import { writeSidecar } from '../store/sidecars.js';

/** The backup let go of its guest when it was committed; somebody may have taken it since. */
const WAIT_SECONDS = 60;

/** Once it resolves, the labels are durable. */
export async function writeLabels(
  store: Datastore,
  backup: string,
  labels: ReadonlyMap<string, string>,
): Promise<void> {
  if (labels.size === 0) return;
  const ref = parseBackupId(backup);
  if (ref === undefined) throw new BugError(`${backup} is not a backup's id`);
  const session = await store.beginSession('backup');
  try {
    const lock = await lockGuest(store.fs, store.root, ref, { waitSeconds: WAIT_SECONDS });
    try {
      const { digest } = await readManifest(store.root, ref);
      const sidecar = { manifestDigest: digest, labels, notes: '', isProtected: false };
      await writeSidecar(store, session, ref, sidecar, store.superblock.hash);
    } finally {
      await lock.release();
    }
  } finally {
    await session.end();
  }
}
