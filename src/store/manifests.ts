// SPDX-License-Identifier: MIT
// The backups of a datastore: listed, read, committed, forgotten. A backup is there if its manifest's file is.
// docs/ORDERING.md has the order of the writes and what a crash between any two of them leaves.

import { basename, dirname, join } from 'node:path';
import { setImmediate as letOthersRun } from 'node:timers/promises';
import { MAX_MANIFEST_BYTES } from '../../formats/vmar/limits.js';
import { decodeManifest, type Manifest } from '../../formats/vmar/manifest.js';
import { BugError, DamageError, NotFoundError, VmarError } from '../base/errors.js';
import { type BackupRef, formatBackupId, type GuestRef, sameGuest } from './backup-id.js';
import { makeDirectories, syncDirectories, unlessMissing } from './directory-tree.js';
import { type StoreFs, systemCode } from './fs.js';
import { giveName } from './give-name.js';
import { guestDirectory, manifestPath, parseGuestFile } from './layout.js';
import { type LostPlace, listManifestNames, type WalkOptions } from './manifest-tree.js';
import type { Session, SessionPlace } from './session.js';
import { readSmallFile, writeDurably } from './small-file.js';

export interface StoredManifest {
  readonly ref: BackupRef;
  readonly manifest: Manifest;
  /** 32 bytes. */
  readonly digest: Uint8Array;
  readonly fileBytes: number;
  readonly path: string;
}

export interface DamagedManifest {
  readonly ref: BackupRef;
  readonly path: string;
  readonly error: VmarError;
}

export interface ManifestList {
  /** Ordered by namespace, guest and time. */
  readonly entries: StoredManifest[];
  readonly damaged: DamagedManifest[];
  /** Paths in the tree that are none of ours. */
  readonly strange: string[];
  /** Paths in the tree where backups may have been that nobody can see now. */
  readonly lost: LostPlace[];
}

/** Manifests read before signals and timers get their turn: some milliseconds' worth. */
const READ_AT_ONCE = 64;

/** Reads and checks every manifest, or every one of a guest. A damaged one is reported and stops nothing. */
export async function listManifests(root: string, guest?: GuestRef, options: WalkOptions = {}): Promise<ManifestList> {
  const { backups, strange, lost } = await listManifestNames(root, guest, options);
  return { ...(await readManifests(root, backups)), strange, lost };
}

/** Reads and checks the manifests of the backups, in their order. A damaged one is reported and stops nothing. */
export async function readManifests(
  root: string,
  backups: readonly BackupRef[],
): Promise<Pick<ManifestList, 'entries' | 'damaged'>> {
  const list: Pick<ManifestList, 'entries' | 'damaged'> = { entries: [], damaged: [] };
  for (const [i, ref] of backups.entries()) {
    if (i % READ_AT_ONCE === 0) await letOthersRun();
    try {
      list.entries.push(await readManifest(root, ref));
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // One that was forgotten while we were listing is not missed.
      if (!(error instanceof NotFoundError)) list.damaged.push({ ref, path: manifestPath(root, ref), error });
    }
  }
  return list;
}

/**
 * Reads one manifest and checks that it is the one its path says.
 * @throws NotFoundError if there is none, DamageError if it is damaged, FailedError if it is newer.
 */
export async function readManifest(root: string, ref: BackupRef): Promise<StoredManifest> {
  const path = manifestPath(root, ref);
  const bytes = await readOrNotFound(path, ref);
  const { manifest, digest } = decodeManifest(bytes, path);
  if (!sameGuest(manifest, ref) || manifest.timeSeconds !== ref.timeSeconds) {
    throw new DamageError('manifest-misplaced', 'the manifest is of another backup than its path says', {
      object: path,
      offsetBytes: 0,
      expected: formatBackupId(ref),
      found: formatBackupId(manifest),
    });
  }
  return { ref, manifest, digest, fileBytes: bytes.byteLength, path };
}

async function readOrNotFound(path: string, ref: BackupRef): Promise<Uint8Array> {
  try {
    return await readSmallFile(path, MAX_MANIFEST_BYTES);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new NotFoundError('no-such-backup', 'no such backup', { object: formatBackupId(ref), cause: error });
  }
}

/** The guest's newest backup by time; undefined if it has none. */
export async function latestBackup(root: string, guest: GuestRef): Promise<BackupRef | undefined> {
  return (await listManifestNames(root, guest)).backups.at(-1);
}

/** Makes the whole manifest file for a backup of that time. */
export type BuildManifest = (timeSeconds: number) => Uint8Array;

/**
 * Commits a backup: once it resolves, the backup is there and durable; if it rejects, it is not there. Never replaces a
 * backup: where the guest has one of that second, the manifest is built again for the next.
 * The caller holds the guest's lock, and everything that the manifest names is durable.
 */
export async function commitManifest(
  place: SessionPlace,
  session: Session,
  guest: GuestRef,
  timeSeconds: number,
  build: BuildManifest,
): Promise<BackupRef> {
  const { namespace, guestType, guestId } = guest;
  for (let time = timeSeconds; ; time++) {
    const ref: BackupRef = { namespace, guestType, guestId, timeSeconds: time };
    if (await commitAt(place, session, ref, build(time))) return ref;
  }
}

/** False if the guest has a backup of that second. */
async function commitAt(place: SessionPlace, session: Session, ref: BackupRef, bytes: Uint8Array): Promise<boolean> {
  const { fs, root } = place;
  const path = manifestPath(root, ref);
  checkBuilt(bytes, ref, path);
  const temporary = session.temporaryPath('manifest');
  await writeDurably(fs, temporary, bytes);
  const manifests = join(root, 'manifests');
  await makeDirectories(fs, manifests, dirname(path));
  try {
    await giveName(fs, temporary, path);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    await fs.unlink(temporary);
    return false;
  }
  try {
    await syncDirectories(fs, manifests, dirname(path));
  } catch (error) {
    // Nobody can say whether it would outlive a crash: a backup that was told to have failed must not stay.
    await fs.unlink(path).catch(() => undefined);
    throw error;
  }
  // The backup is there, whatever becomes of its other name, which goes with the session.
  await fs.unlink(temporary).catch(() => undefined);
  return true;
}

/** What was encoded must decode to what it is committed as. */
function checkBuilt(bytes: Uint8Array, ref: BackupRef, path: string): void {
  let found = 'damaged';
  try {
    const { manifest } = decodeManifest(bytes, path);
    if (sameGuest(manifest, ref) && manifest.timeSeconds === ref.timeSeconds) return;
    found = formatBackupId(manifest);
  } catch (error) {
    found = String(error);
  }
  throw new BugError(`the manifest that was built for ${formatBackupId(ref)} is ${found}`);
}

/**
 * Forgets a backup: once it resolves, it is durably gone. Its packs stay for gc. Protection is the caller's to look at.
 * The caller holds the guest's lock.
 * @throws NotFoundError if there is no such backup.
 */
export async function forgetManifest(fs: StoreFs, root: string, ref: BackupRef): Promise<void> {
  await forgetManifests(fs, root, ref, [ref]);
}

/**
 * As forgetManifest, for backups of one guest, in the order that is given: a crash in between leaves the later ones.
 * Their number costs little more than their removal.
 */
export async function forgetManifests(
  fs: StoreFs,
  root: string,
  guest: GuestRef,
  refs: readonly BackupRef[],
): Promise<void> {
  for (const ref of refs) await unlinkManifest(fs, root, ref);
  await fs.fsyncDirectory(guestDirectory(root, guest));
  await removeOrphanSidecars(fs, root, guest);
}

async function unlinkManifest(fs: StoreFs, root: string, ref: BackupRef): Promise<void> {
  try {
    await fs.unlink(manifestPath(root, ref));
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new NotFoundError('no-such-backup', 'no such backup', { object: formatBackupId(ref), cause: error });
  }
}

/** Sidecars whose manifests are gone: this forget's, and those of forgets that were cut off. They harm nobody. */
async function removeOrphanSidecars(fs: StoreFs, root: string, guest: GuestRef): Promise<void> {
  for (const path of (await listManifestNames(root, guest)).strange) {
    if (parseGuestFile(basename(path))?.kind === 'sidecar') await unlessMissing(fs.unlink(path));
  }
}
