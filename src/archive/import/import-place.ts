// SPDX-License-Identifier: MIT
// Where imports go: a datastore, one backup after another, each once.
//
// Guarantee: what is imported is there as a whole or not at all, and a source that is there already is not imported again;
// the guest's lock is held from the look for it until the backup is there.

import type { Log } from '../../base/log.js';
import type { BackupDescription, DiskCounts, DumpResult } from '../../plugin-api.js';
import { formatBackupId } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import { listManifests, type StoredManifest } from '../../store/manifests.js';
import { ArchiveSink } from '../archive-sink.js';
import { openDatastoreVault } from '../datastore-vault.js';
import { isSameBackup } from '../identity.js';
import type { Machine } from '../machine.js';

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
    const { store, machine, waitSeconds, signal } = this.options;
    const wait = signal === undefined ? { waitSeconds } : { waitSeconds, signal };
    const vault = await openDatastoreVault(store, description, wait);
    let known: StoredManifest | undefined;
    try {
      known = await this.#find(description);
    } catch (error) {
      await vault.abort();
      throw error;
    }
    if (known !== undefined) {
      await vault.abort();
      return { backup: formatBackupId(known.ref), isKnown: true, disks: known.manifest.disks };
    }
    const { backup, disks } = await fill(new ArchiveSink(vault, machine), vault.scratchDirectory);
    return { backup, isKnown: false, disks };
  }

  async #find({ namespace, guestId, sourceUuid }: BackupDescription): Promise<StoredManifest | undefined> {
    if (sourceUuid === undefined) return undefined;
    const guest = { namespace, guestType: 'vm' as const, guestId };
    const { entries } = await listManifests(this.options.store.root, guest);
    return entries.find(({ manifest }) => isSameBackup(manifest, sourceUuid));
  }
}
