// SPDX-License-Identifier: MIT
// What may change about a backup: labels, notes, protection. It lies beside the manifest and names it by digest.

import { dirname } from 'node:path';
import type { HashName } from '../../formats/vmar/hash.js';
import { MAX_MANIFEST_BYTES } from '../../formats/vmar/limits.js';
import { decodeSidecar, encodeSidecar, type Sidecar } from '../../formats/vmar/sidecar.js';
import { bytesEqual } from '../base/bytes.js';
import { NotFoundError } from '../base/errors.js';
import type { BackupRef } from './backup-id.js';
import { sidecarPath } from './layout.js';
import type { Session, SessionPlace } from './session.js';
import { readSmallFile, writeDurably } from './small-file.js';

/** Envelopes are of one size limit, whatever is in them. */
export const MOST_SIDECAR_BYTES = MAX_MANIFEST_BYTES;

/**
 * The backup's sidecar; undefined if it has none. One that names another manifest was left by a forget that was cut off,
 * and counts as none.
 * @throws DamageError if it is damaged.
 */
export async function readSidecar(
  root: string,
  backup: BackupRef,
  manifestDigest: Uint8Array,
): Promise<Sidecar | undefined> {
  const path = sidecarPath(root, backup);
  let bytes: Uint8Array;
  try {
    bytes = await readSmallFile(path, MOST_SIDECAR_BYTES);
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
  const sidecar = decodeSidecar(bytes, path);
  return bytesEqual(sidecar.manifestDigest, manifestDigest) ? sidecar : undefined;
}

/** A sidecar without anything in it, for a backup that has none yet. */
export function blankSidecar(manifestDigest: Uint8Array): Sidecar {
  return { manifestDigest, labels: new Map(), notes: '', isProtected: false };
}

/** Puts a sidecar in place of the one there is, if any, in one durable step. The caller holds the guest's lock. */
export async function writeSidecar(
  place: SessionPlace,
  session: Session,
  backup: BackupRef,
  sidecar: Sidecar,
  hash: HashName,
): Promise<void> {
  const temporary = session.temporaryPath('sidecar');
  const path = sidecarPath(place.root, backup);
  await writeDurably(place.fs, temporary, encodeSidecar(sidecar, hash));
  await place.fs.rename(temporary, path);
  await place.fs.fsyncDirectory(dirname(path));
}
