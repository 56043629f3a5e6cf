// SPDX-License-Identifier: MIT
// Copies one backup: by the ids of its chunks where both datastores are of one shape, else by reading its disks.

import { diskBytes, type Manifest } from '../../../formats/vmar/manifest.js';
import type { Sidecar } from '../../../formats/vmar/sidecar.js';
import { BugError, InterruptedError, VmarError } from '../../base/errors.js';
import type { BackupDescription } from '../../plugin-api.js';
import { type BackupRef, formatBackupId } from '../../store/backup-id.js';
import { withGuestLocks } from '../../store/change-backups.js';
import type { Datastore } from '../../store/datastore.js';
import { listManifestNames } from '../../store/manifest-tree.js';
import { readManifest } from '../../store/manifests.js';
import { readSidecar, writeSidecar } from '../../store/sidecars.js';
import { ArchiveSink } from '../archive-sink.js';
import { beside } from '../beside.js';
import { copyBackup, createReader, describeAgain } from '../copy-backup.js';
import { type DatastoreVault, openDatastoreVault, type Relative } from '../datastore-vault.js';
import { backupIdentity, isSameBackup } from '../identity.js';
import { type OpenBackup, openBackupAt } from '../open-backup.js';
import type { ManifestDraft } from '../vault.js';
import { type CopiedDisk, copyById, countsOf } from './copy-by-id.js';
import { otherBackup, type PlannedCopy } from './copy-plan.js';
import type { CopiedBackup, Copier, CopyOptions } from './copy-stores.js';
import { inspectPack } from './inspect-pack.js';

export class CopyOne implements Copier {
  readonly #options: CopyOptions;

  constructor(options: CopyOptions) {
    this.#options = options;
  }

  async copy(ref: BackupRef): Promise<CopiedBackup> {
    const { source, destination, machine, waitSeconds, signal } = this.#options;
    // The source's session first: what is read stays there.
    const backup = await openBackupAt(source, ref);
    try {
      const vault = await openDatastoreVault(destination, ref, {
        ...{ waitSeconds, signal },
        revise: (made) => asItWas(made, backup.manifest),
        inspect: async (path) => await inspectPack(path, machine.executor),
      });
      return await this.#fill(ref, backup, vault);
    } finally {
      await backup.close();
    }
  }

  /** Takes the vault. */
  async #fill(ref: BackupRef, backup: OpenBackup, vault: DatastoreVault): Promise<CopiedBackup> {
    const { manifest } = backup;
    const sizeBytes = diskBytes(manifest);
    const told = { backup: formatBackupId(ref), isKnown: false, isRechunked: false, sizeBytes };
    try {
      if (await isThere(this.#options.destination, ref, manifest)) {
        await vault.abort();
        return { ...told, isKnown: true, newBytes: 0, storedBytes: 0 };
      }
      if (!isOfOneShape(manifest, vault)) return { ...told, ...(await this.#rechunk(backup, vault)) };
      return { ...told, ...(await this.#byId(ref, backup, vault)) };
    } catch (error) {
      await vault.abort();
      throw this.#options.signal.aborted ? new InterruptedError() : error;
    }
  }

  async #byId(ref: BackupRef, backup: OpenBackup, vault: DatastoreVault) {
    const { machine, destination, signal, onProgress, log } = this.#options;
    const relatives = await relativesOf(destination, ref, vault, describeCopy(backup));
    const { disks, frames } = await copyById(backup, vault, {
      ...{ machine, relatives, signal, onProgress },
      draft: (disks) => draftCopy(backup.manifest, disks),
    });
    log.debug(`${backup.name}: ${frames.whole} frames as they were, parts of ${frames.parts}`);
    return sums(disks);
  }

  async #rechunk(backup: OpenBackup, vault: DatastoreVault) {
    const { machine, signal, onProgress, log } = this.#options;
    const { hash, disks: from } = backup.manifest;
    const [told, wanted] = [shapeOf(hash, from[0]?.clusterSizeBytes ?? 0), shapeOf(vault.hash, vault.clusterSizeBytes)];
    log.info(`${backup.name} is of ${told}, the destination of ${wanted}: its disks are read and chunked anew`);
    const own = machine.hash === hash ? undefined : createReader(backup);
    let seen = 0;
    try {
      const { disks } = await copyBackup(backup, describeCopy(backup), new ArchiveSink(vault, machine), {
        ...{ executor: own ?? machine.executor, signal },
        onProgress: (done) => {
          onProgress(done - seen);
          seen = done;
        },
      });
      return { ...sums(disks), isRechunked: true };
    } finally {
      await own?.close();
    }
  }

  /** Labels come after the manifest: a copy that was cut off in between left them out. */
  async complete({ ref, found }: Extract<PlannedCopy, { state: 'there' }>): Promise<void> {
    const { source, destination } = this.#options;
    const wanted = await sidecarOf(source, ref);
    if (wanted === undefined || isBlank(wanted)) return;
    if ((await readSidecar(destination.root, ref, found.digest)) !== undefined) return;
    await withGuestLocks(destination, [ref], async (session) => {
      if ((await readSidecar(destination.root, ref, found.digest)) !== undefined) return;
      const { labels, notes, isProtected } = wanted;
      const sidecar = { manifestDigest: found.digest, labels, notes, isProtected };
      await writeSidecar(destination, session, ref, sidecar, destination.superblock.hash);
    });
  }
}

/** As it was made; what concerns the datastore is the vault's. A dirty bitmap follows the backup that it began with. */
function draftCopy(manifest: Manifest, copied: readonly CopiedDisk[]): ManifestDraft {
  return {
    ...manifest,
    disks: manifest.disks.map((disk, index) => ({ ...disk, bitmapName: '', ...countsOf(copied[index]!) })),
  };
}

/** The manifest as it was made; what concerns the datastore is the datastore's own. */
function asItWas(made: Manifest, was: Manifest): Manifest {
  const { writerId, writer, startedMillis, finishedMillis } = was;
  const disks = made.disks.map((disk, index) => {
    const { readBytes, fullReason } = was.disks[index]!;
    return { ...disk, readBytes, fullReason };
  });
  return { ...made, disks, writerId, writer, startedMillis, finishedMillis };
}

export function describeCopy(backup: OpenBackup): BackupDescription {
  return { ...describeAgain(backup.manifest), ...beside(backup) };
}

/** Whether chunks can go by their ids. */
export function isOfOneShape(
  manifest: Manifest,
  { hash, clusterSizeBytes, fanout }: Pick<DatastoreVault, 'hash' | 'clusterSizeBytes' | 'fanout'>,
): boolean {
  if (manifest.hash !== hash || manifest.mapFanout !== fanout) return false;
  return manifest.disks.every((disk) => disk.clusterSizeBytes === clusterSizeBytes);
}

function shapeOf(hash: string, clusterSizeBytes: number): string {
  return `clusters of ${clusterSizeBytes / 1024} KiB and ${hash}`;
}

/** @throws FailedError if another backup has its name there */
async function isThere(destination: Datastore, ref: BackupRef, manifest: Manifest): Promise<boolean> {
  try {
    const found = await readManifest(destination.root, ref);
    if (isSameBackup(found.manifest, backupIdentity(manifest))) return true;
  } catch (error) {
    if (error instanceof VmarError && error.code === 'no-such-backup') return false;
    throw error;
  }
  throw otherBackup(destination, ref);
}

/**
 * Begins the vault, and gives the backups at the destination that are most like this one: the guest's latest, with which
 * every backup is compared, and those next to it in time.
 */
export async function relativesOf(
  destination: Datastore,
  ref: BackupRef,
  vault: DatastoreVault,
  description: BackupDescription,
): Promise<Relative[]> {
  const { parents, timeSeconds } = await vault.begin(description);
  if (timeSeconds !== ref.timeSeconds) throw new BugError('the second was taken while the guest was locked');
  const relatives: Relative[] = [{ maps: parents, note: () => vault.noteParent() }];
  const { backups } = await listManifestNames(destination.root, ref);
  const latest = backups.at(-1);
  const before = backups.findLast((each) => each.timeSeconds < ref.timeSeconds);
  const after = backups.find((each) => each.timeSeconds > ref.timeSeconds);
  for (const each of [before, after]) {
    if (each !== undefined && each !== latest) relatives.push(await vault.relative(each, description));
  }
  // Then every chunk is looked up, and what is damaged there comes once more: that heals the others, too.
  return vault.isDamageKnown ? [] : relatives;
}

async function sidecarOf(store: Datastore, ref: BackupRef): Promise<Sidecar | undefined> {
  try {
    const { digest } = await readManifest(store.root, ref);
    return await readSidecar(store.root, ref, digest);
  } catch (error) {
    if (!(error instanceof VmarError)) throw error;
    store.log.warn(`labels and notes of ${formatBackupId(ref)} cannot be read: ${error.message}`);
    return undefined;
  }
}

function isBlank({ labels, notes, isProtected }: Sidecar): boolean {
  return labels.size === 0 && notes === '' && !isProtected;
}

function sums(disks: readonly { readonly newBytes: number; readonly storedBytes: number }[]) {
  const sum = (what: 'newBytes' | 'storedBytes') => Math.round(disks.reduce((all, disk) => all + disk[what], 0));
  return { newBytes: sum('newBytes'), storedBytes: sum('storedBytes') };
}
