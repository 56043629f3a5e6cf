// SPDX-License-Identifier: MIT
// vmar forget

import { decodeSidecar } from '../../../formats/vmar/sidecar.js';
import { DamageError, EXIT, type ExitStatus, FailedError, NotFoundError, UsageError } from '../../base/errors.js';
import { type BackupRef, compareGuests, formatBackupId, formatGuest, resolveBackup } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import { sidecarPath } from '../../store/layout.js';
import { type Lock, lockGuest } from '../../store/locks.js';
import { listManifestNames } from '../../store/manifest-tree.js';
import { forgetManifest, readManifest } from '../../store/manifests.js';
import { MOST_SIDECAR_BYTES, readSidecar } from '../../store/sidecars.js';
import { readSmallFile } from '../../store/small-file.js';
import type { Context } from '../context.js';
import { withStore } from '../open-store.js';
import { isArchiveName } from '../parse-backup-name.js';

/** All of the backups or, if one is not there, protected or busy, none. */
export async function run(context: Context, names: readonly string[]): Promise<ExitStatus> {
  refuseArchives(names);
  return await withStore(context, async (store) => {
    const { backups } = await listManifestNames(store.root);
    const chosen = new Map(names.map((name) => resolveBackup(name, backups)).map((ref) => [formatBackupId(ref), ref]));
    await forgetAll(context, store, [...chosen.values()]);
    context.output.summary(
      () => ({ forgotten: [...chosen.keys()] }),
      () => [...chosen.keys()].map((id) => `forgot ${id}`).join('\n'),
    );
    return EXIT.done;
  });
}

function refuseArchives(names: readonly string[]): void {
  const archive = names.find(isArchiveName);
  if (archive === undefined) return;
  throw new UsageError('not-in-datastore', 'only backups in a datastore can be forgotten', {
    object: archive,
    advice: 'An archive is a file: remove it.',
  });
}

async function forgetAll(context: Context, store: Datastore, chosen: readonly BackupRef[]): Promise<void> {
  const session = await store.beginSession('maintenance');
  const locks: Lock[] = [];
  try {
    const guests = new Map(chosen.map((ref) => [formatGuest(ref), ref]));
    // In one order everywhere, so that two who want the same guests cannot wait for each other.
    for (const guest of [...guests.values()].sort(compareGuests)) {
      locks.push(await lockGuest(store.fs, store.root, guest));
    }
    for (const ref of chosen) await requireUnprotected(context, store, ref);
    for (const ref of chosen) await forgetManifest(store.fs, store.root, ref);
  } finally {
    for (const lock of locks) await lock.release();
    await session.end();
  }
}

/** A backup whose manifest is damaged may be forgotten; one whose sidecar is damaged may be protected, and may not. */
async function requireUnprotected(context: Context, store: Datastore, ref: BackupRef): Promise<void> {
  if (!(await isProtected(context, store, ref))) return;
  throw new FailedError('protected', 'the backup is protected', {
    object: formatBackupId(ref),
    advice: 'Nothing was forgotten. Take its protection away first if it is really not wanted any more.',
  });
}

async function isProtected(context: Context, store: Datastore, ref: BackupRef): Promise<boolean> {
  let digest: Uint8Array;
  try {
    digest = (await readManifest(store.root, ref)).digest;
  } catch (error) {
    if (!(error instanceof DamageError)) throw error;
    context.log.warn(`the manifest of ${formatBackupId(ref)} is damaged: ${error.message}`);
    return await isAnySidecarProtecting(store.root, ref);
  }
  return (await readSidecar(store.root, ref, digest))?.isProtected === true;
}

/** Of a sidecar that may be of another manifest: nobody can tell. */
async function isAnySidecarProtecting(root: string, ref: BackupRef): Promise<boolean> {
  const path = sidecarPath(root, ref);
  try {
    return decodeSidecar(await readSmallFile(path, MOST_SIDECAR_BYTES), path).isProtected;
  } catch (error) {
    if (error instanceof NotFoundError) return false;
    throw error;
  }
}
