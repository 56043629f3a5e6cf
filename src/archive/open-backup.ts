// SPDX-License-Identifier: MIT
// One backup to read from, wherever it lies: in a datastore or in an archive of its own.

import { existsSync } from 'node:fs';
import { CHUNK_ENTRY_BYTES, EXTENT_HEADER_BYTES, FRAME_ENTRY_BYTES } from '../../formats/vmar/extent.js';
import { decodeManifest, type Manifest } from '../../formats/vmar/manifest.js';
import type { Sidecar } from '../../formats/vmar/sidecar.js';
import { DamageError, FailedError, NotFoundError, VmarError } from '../base/errors.js';
import { packsNow, successorsOf } from '../store/backup-health.js';
import { type BackupRef, formatBackupId, resolveBackup } from '../store/backup-id.js';
import { ContainerReader } from '../store/container-reader.js';
import { type KnownDamage, readDamage } from '../store/damage-list.js';
import type { Datastore } from '../store/datastore.js';
import { type PackId, packPath } from '../store/layout.js';
import { listManifestNames } from '../store/manifest-tree.js';
import { readManifest, type StoredManifest } from '../store/manifests.js';
import { readSidecar } from '../store/sidecars.js';
import { ArchiveChunks } from './archive-chunks.js';
import { readFrame } from './chunk-reader.js';
import type { ChunkSource } from './chunk-source.js';
import { DatastoreChunks } from './datastore-chunks.js';

/** Of an extent. */
const MANIFEST_CONTENT = 3;

/** What can be told of a backup without its chunks. */
export interface BackupFacts {
  /** Its full id, or the archive's path. */
  readonly name: string;
  readonly manifest: Manifest;
  readonly manifestPath: string;
  readonly digest: Uint8Array;
  /** @throws DamageError when it is asked for and damaged: labels that are lost are no reason not to restore. */
  readonly sidecar: Sidecar | undefined;
  /** Where it is known to be damaged: the names of the disks that are touched, none if that is not known. */
  readonly damagedDisks?: readonly string[];
}

export interface OpenBackup extends BackupFacts {
  readonly source: ChunkSource;
  close(): Promise<void>;
}

/** The facts of a backup of a datastore, by what a user calls it. @throws as `openBackup` does */
export async function lookAtBackup(store: Datastore, name: string): Promise<BackupFacts> {
  const ref = await find(store, name);
  const files = await readFiles(store, ref);
  return factsOf(files, await readDamage(store.root, store.log));
}

/**
 * Opens a backup of a datastore by what a user calls it, as a read session.
 * @throws NotFoundError if there is none, UsageError if the name fits several, DamageError if its manifest is damaged.
 */
export async function openBackup(store: Datastore, name: string): Promise<OpenBackup> {
  return await openInSession(store, async () => await find(store, name));
}

async function find({ root }: Datastore, name: string): Promise<BackupRef> {
  const { backups, lost } = await listManifestNames(root, undefined, { isLenient: true });
  try {
    return resolveBackup(name, backups);
  } catch (error) {
    // It may be there all the same.
    throw error instanceof NotFoundError && lost[0] !== undefined ? lost[0].error : error;
  }
}

/** The same for one that is known. */
export async function openBackupAt(store: Datastore, ref: BackupRef): Promise<OpenBackup> {
  return await openInSession(store, async () => ref);
}

async function openInSession(store: Datastore, refOf: () => Promise<BackupRef>): Promise<OpenBackup> {
  const session = await store.beginSession('read');
  try {
    const files = await readFiles(store, await refOf());
    const { packs } = files.stored.manifest;
    const { successors } = await successorsOf(store.root);
    const isThere = (packId: PackId): boolean => existsSync(packPath(store.root, packId));
    const source = await DatastoreChunks.open(store, session, packsNow(packs, successors, isThere));
    const facts = factsOf(files, source.damage);
    source.setReading(facts.name);
    const close = async (): Promise<void> => {
      await source.close();
      await session.end();
    };
    return Object.assign(facts, { source, close });
  } catch (error) {
    await session.end();
    throw error;
  }
}

interface BackupFiles {
  readonly stored: StoredManifest;
  readonly sidecar: Sidecar | undefined | VmarError;
}

async function readFiles(store: Datastore, ref: BackupRef): Promise<BackupFiles> {
  const stored = await readManifest(store.root, ref);
  const sidecar = await readSidecar(store.root, ref, stored.digest).catch((error: unknown) => {
    if (!(error instanceof VmarError)) throw error;
    store.log.warn(`labels and notes of ${formatBackupId(ref)} cannot be read: ${error.message}`);
    return error;
  });
  return { stored, sidecar };
}

function factsOf({ stored, sidecar }: BackupFiles, damage: KnownDamage): BackupFacts {
  const { ref, manifest, path: manifestPath, digest } = stored;
  const name = formatBackupId(ref);
  const known = damage.isDamaged(name) ? { damagedDisks: damage.disksOf(name) } : {};
  return {
    ...{ name, manifest, manifestPath, digest, ...known },
    get sidecar() {
      if (sidecar instanceof VmarError) throw sidecar;
      return sidecar;
    },
  };
}

/** Opens an archive file. @throws NotFoundError, DamageError, FailedError if it holds no backup. */
export async function openArchive(path: string): Promise<OpenBackup> {
  const container = ContainerReader.open(path);
  try {
    const { manifest, digest } = readArchiveManifest(container);
    const source = new ArchiveChunks(container);
    const close = async (): Promise<void> => await source.close();
    return { name: path, manifest, manifestPath: path, digest, sidecar: undefined, source, close };
  } catch (error) {
    container.close();
    throw error;
  }
}

/**
 * The manifest inside an archive.
 * @throws FailedError for a pack: the copy of a manifest that it may have is there for repair, not to restore from.
 */
export function readArchiveManifest(container: ContainerReader): { manifest: Manifest; digest: Uint8Array } {
  if (container.header.use !== 'archive') {
    throw new FailedError('no-manifest', 'the file holds no backup, only chunks', {
      object: container.path,
      advice: 'If it is a pack of a datastore, name the datastore instead.',
    });
  }
  const at = container.footer.manifestExtentOffset;
  const extent = at === 0 ? undefined : container.extentHead(at);
  // A prologue looks the same, and its disks are all zero.
  if (extent?.content !== MANIFEST_CONTENT) {
    throw new DamageError('manifest-misplaced', 'there is no manifest where the footer says', {
      object: container.path,
      offsetBytes: at,
    });
  }
  const frame = extent.frames[0]!;
  const headBytes = EXTENT_HEADER_BYTES + CHUNK_ENTRY_BYTES + FRAME_ENTRY_BYTES;
  return decodeManifest(readFrame(container, { ...frame, offsetBytes: at + headBytes }), container.path);
}
