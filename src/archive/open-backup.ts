// SPDX-License-Identifier: MIT
// One backup to read from, wherever it lies: in a datastore or in an archive of its own.

import { CHUNK_ENTRY_BYTES, EXTENT_HEADER_BYTES, FRAME_ENTRY_BYTES } from '../../formats/vmar/extent.js';
import { decodeManifest, type Manifest } from '../../formats/vmar/manifest.js';
import type { Sidecar } from '../../formats/vmar/sidecar.js';
import { DamageError, FailedError, VmarError } from '../base/errors.js';
import { type BackupRef, formatBackupId, resolveBackup } from '../store/backup-id.js';
import { ContainerReader } from '../store/container-reader.js';
import type { Datastore } from '../store/datastore.js';
import { listManifestNames } from '../store/manifest-tree.js';
import { readManifest } from '../store/manifests.js';
import { readSidecar } from '../store/sidecars.js';
import { ArchiveChunks } from './archive-chunks.js';
import { readFrame } from './chunk-reader.js';
import type { ChunkSource } from './chunk-source.js';
import { DatastoreChunks } from './datastore-chunks.js';

/** Of an extent. */
const MANIFEST_CONTENT = 3;

export interface OpenBackup {
  /** Its full id, or the archive's path. */
  readonly name: string;
  readonly manifest: Manifest;
  readonly manifestPath: string;
  readonly digest: Uint8Array;
  /** @throws DamageError when it is asked for and damaged: labels that are lost are no reason not to restore. */
  readonly sidecar: Sidecar | undefined;
  readonly source: ChunkSource;
  /** Where it is known to be damaged: the names of the disks that are touched, none if that is not known. */
  readonly damagedDisks?: readonly string[];
  close(): Promise<void>;
}

/**
 * Opens a backup of a datastore by what a user calls it, as a read session.
 * @throws NotFoundError if there is none, UsageError if the name fits several, DamageError if its manifest is damaged.
 */
export async function openBackup(store: Datastore, name: string): Promise<OpenBackup> {
  return await openInSession(store, async () => resolveBackup(name, (await listManifestNames(store.root)).backups));
}

/** The same for one that is known. */
export async function openBackupAt(store: Datastore, ref: BackupRef): Promise<OpenBackup> {
  return await openInSession(store, async () => ref);
}

async function openInSession(store: Datastore, find: () => Promise<BackupRef>): Promise<OpenBackup> {
  const session = await store.beginSession('read');
  try {
    const ref = await find();
    const { manifest, digest, path } = await readManifest(store.root, ref);
    const sidecar = await readSidecar(store.root, ref, digest).catch((error: unknown) => {
      if (!(error instanceof VmarError)) throw error;
      store.log.warn(`labels and notes of ${formatBackupId(ref)} cannot be read: ${error.message}`);
      return error;
    });
    const source = await DatastoreChunks.open(store, session);
    source.setReading(formatBackupId(ref));
    const { damage } = source;
    const isDamaged = damage.isDamaged(formatBackupId(ref));
    const known = isDamaged ? { damagedDisks: damage.disksOf(formatBackupId(ref)) } : {};
    const close = async (): Promise<void> => {
      await source.close();
      await session.end();
    };
    return {
      ...{ name: formatBackupId(ref), manifest, manifestPath: path, digest, source, close, ...known },
      get sidecar() {
        if (sidecar instanceof VmarError) throw sidecar;
        return sidecar;
      },
    };
  } catch (error) {
    await session.end();
    throw error;
  }
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
