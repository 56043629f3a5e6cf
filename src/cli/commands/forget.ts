// SPDX-License-Identifier: MIT
// vmar forget

import { decodeSidecar } from '../../../formats/vmar/sidecar.js';
import { DamageError, EXIT, type ExitStatus, FailedError, NotFoundError } from '../../base/errors.js';
import { type BackupRef, formatBackupId, formatGuest } from '../../store/backup-id.js';
import { withGuestLocks } from '../../store/change-backups.js';
import type { Datastore } from '../../store/datastore.js';
import { markLaterRemoved } from '../../store/later-removed.js';
import { sidecarPath } from '../../store/layout.js';
import { forgetManifest, readManifest } from '../../store/manifests.js';
import { MOST_SIDECAR_BYTES, readSidecar } from '../../store/sidecars.js';
import { readSmallFile } from '../../store/small-file.js';
import type { Context } from '../context.js';
import { findBackups } from '../find-backups.js';
import { withStore } from '../open-store.js';

/** All of the backups or, if one is not there, protected or busy, none. */
export async function run(context: Context, names: readonly string[]): Promise<ExitStatus> {
  return await withStore(context, async (store) => {
    const chosen = await findBackups(store.root, names, 'forgotten');
    await withGuestLocks(store, chosen, async (session) => {
      for (const ref of chosen) await requireUnprotected(context, store, ref);
      const guests = new Map(chosen.map((ref) => [formatGuest(ref), ref]));
      for (const [name, guest] of guests) {
        const going = chosen.filter((ref) => formatGuest(ref) === name);
        await markLaterRemoved(store, session, guest, going);
      }
      for (const ref of chosen) await forgetManifest(store.fs, store.root, ref);
    });
    const ids = chosen.map(formatBackupId);
    context.output.summary(
      () => ({ forgotten: ids }),
      () => ids.map((id) => `forgot ${id}`).join('\n'),
    );
    return EXIT.done;
  });
}

/** A backup whose manifest is damaged may be forgotten; one whose sidecar is damaged may be protected, and may not. */
async function requireUnprotected(context: Context, store: Datastore, ref: BackupRef): Promise<void> {
  if (!(await isProtected(context, store, ref))) return;
  throw new FailedError('protected', 'the backup is protected', {
    object: formatBackupId(ref),
    advice:
      'Nothing was forgotten. Take its protection away first, with `vmar protect --off`, if it is not wanted any more.',
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
