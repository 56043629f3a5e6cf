// SPDX-License-Identifier: MIT
// Where imports go: a datastore, one backup after another, each once.
//
// Guarantee: what is imported is there as a whole or not at all, and a source that is there already is not imported again;
// the guest's lock is held from the look for it until the backup is there. Not all who write archives give each a UUID of
// its own: what bears that of a backup but another time, other disks or other configuration files is read, and compared.

import type { Manifest } from '../../../formats/vmar/manifest.js';
import { FailedError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { BackupDescription, DiskCounts, DumpResult } from '../../plugin-api.js';
import { formatBackupId } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import { listManifests, type StoredManifest } from '../../store/manifests.js';
import { ArchiveSink } from '../archive-sink.js';
import { openDatastoreVault } from '../datastore-vault.js';
import { isSameBackup } from '../identity.js';
import type { Machine } from '../machine.js';
import { isSameContent, looksSame } from './same-import.js';

export interface ImportPlaceOptions {
  readonly store: Datastore;
  readonly machine: Machine;
  /** How long to wait for a guest that another process backs up. */
  readonly waitSeconds: number;
  readonly log: Log;
  readonly signal?: AbortSignal;
}

export interface ImportResult {
  readonly backup: string;
  /** It was there before; nothing was done. */
  readonly isKnown: boolean;
  /** Of what was there before: as when it was made. */
  readonly disks: readonly DiskCounts[];
}

/** Fills a sink from `begin` to `finish`; aborts it if that fails. */
export type FillSink = (sink: ArchiveSink, scratchDirectory: string) => Promise<DumpResult>;

export class ImportPlace {
  readonly options: ImportPlaceOptions;

  constructor(options: ImportPlaceOptions) {
    this.options = options;
  }

  /** @param description its `sourceUuid` says what it is known by */
  async add(description: BackupDescription, fill: FillSink): Promise<ImportResult> {
    const { store, machine, waitSeconds, signal, log } = this.options;
    const wait = signal === undefined ? { waitSeconds } : { waitSeconds, signal };
    let known: readonly StoredManifest[] = [];
    let same: StoredManifest | undefined;
    const revise = (made: Manifest): Manifest => {
      same = known.find(({ manifest }) => isSameContent(manifest, made));
      if (same !== undefined) throw new FailedError('there-already', 'this backup is there already');
      const [other] = known;
      if (other !== undefined) {
        const id = formatBackupId(other.ref);
        log.warn(`an archive has the UUID of ${id} and other content: it is imported as a backup of its own`);
      }
      return made;
    };
    const vault = await openDatastoreVault(store, description, { ...wait, revise });
    try {
      known = await this.#find(description);
    } catch (error) {
      await vault.abort();
      throw error;
    }
    same = known.find(({ manifest }) => looksSame(manifest, description));
    if (same !== undefined) {
      await vault.abort();
      return asKnown(same);
    }
    try {
      const { backup, disks } = await fill(new ArchiveSink(vault, machine), vault.scratchDirectory);
      return { backup, isKnown: false, disks };
    } catch (error) {
      // It was found out at its end; then nothing was committed.
      if (same !== undefined) return asKnown(same);
      throw error;
    }
  }

  /** Those that bear the same UUID. */
  async #find({ namespace, guestId, sourceUuid }: BackupDescription): Promise<readonly StoredManifest[]> {
    if (sourceUuid === undefined) return [];
    const guest = { namespace, guestType: 'vm' as const, guestId };
    const { entries } = await listManifests(this.options.store.root, guest);
    return entries.filter(({ manifest }) => isSameBackup(manifest, sourceUuid));
  }
}

function asKnown({ ref, manifest }: StoredManifest): ImportResult {
  return { backup: formatBackupId(ref), isKnown: true, disks: manifest.disks };
}
