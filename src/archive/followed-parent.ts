// SPDX-License-Identifier: MIT
// The guest's latest backup as that which dirty bitmaps follow: what did not change since it is taken from it unread.
//
// Guarantee: a disk is given only if every sign says that its bitmap began with this very backup; nothing is guessed, for
// a bitmap that follows another backup makes a disk that never was.

import { existsSync } from 'node:fs';
import { DamageError, FailedError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Executor } from '../pipeline/executor.js';
import { formatBackupId, type GuestRef } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import { PackState } from '../store/gc/pack-state.js';
import { type PackId, packPath } from '../store/layout.js';
import { latestBackup } from '../store/manifests.js';
import { type BackupDisk, openBackupDisk } from './backup-disk.js';
import { DatastoreChunks } from './datastore-chunks.js';
import { type OpenBackup, openBackup } from './open-backup.js';
import { type LostRange, lostRanges, ParentDamage } from './parent-damage.js';

export interface FollowedDisk {
  readonly disk: string;
  readonly sizeBytes: number;
  readonly bitmapName: string;
}

export class FollowedParent {
  readonly #store: Datastore;
  readonly #parent: OpenBackup | { readonly fault: string };
  /** That have its chunks now: gc may have rewritten those that it names. */
  readonly #packs: readonly PackId[];

  private constructor(
    store: Datastore,
    parent: OpenBackup | { readonly fault: string },
    packs: readonly PackId[] = [],
  ) {
    this.#store = store;
    this.#parent = parent;
    this.#packs = packs;
  }

  /**
   * The caller holds the guest's lock until the new backup is committed. `expected` is the full id of the backup that the
   * bitmaps are known to follow: where one name serves for many backups that alone says so, should the latest be forgotten.
   */
  static async open(store: Datastore, guest: GuestRef, expected: string | undefined): Promise<FollowedParent> {
    const latest = await latestBackup(store.root, guest);
    if (latest === undefined) return new FollowedParent(store, { fault: 'there is no earlier backup of the guest' });
    const id = formatBackupId(latest);
    if (expected !== undefined && expected !== id) {
      return new FollowedParent(store, { fault: `the guest's latest backup is ${id}, not ${expected}` });
    }
    try {
      const parent = await openBackup(store, id);
      const { manifest, digest } = parent;
      if (expected === undefined && isLaterRemoved(parent)) {
        await parent.close();
        return new FollowedParent(store, { fault: `a backup later than ${id} was made and removed` });
      }
      const state = await PackState.read(store.root, store.log);
      const heirs = state.heirsOf(manifest.packs, digest, (packId) => existsSync(packPath(store.root, packId)));
      // What is condemned without heirs is there as long as this session is.
      return new FollowedParent(store, parent, heirs ?? manifest.packs);
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      return new FollowedParent(store, { fault: `the latest backup, ${id}, is damaged: ${error.message}` });
    }
  }

  /**
   * What of a disk that `openDisk` gives is known to be damaged: it is to be read again, as if it had changed. The rest may
   * be taken from the parent unread.
   */
  async damagedRanges({ disk }: Pick<FollowedDisk, 'disk'>): Promise<LostRange[]> {
    if ('fault' in this.#parent || !(this.#parent.source instanceof DatastoreChunks)) return [];
    const { manifest, source } = this.#parent;
    return await lostRanges(source, manifest, disk, this.#packs);
  }

  /** The disk as it was, to be closed before this. Rejects with FailedError 'no-usable-parent', which says why. */
  async openDisk(
    wanted: FollowedDisk,
    options: { readonly executor?: Executor; readonly log?: Log },
  ): Promise<BackupDisk> {
    const fault = this.#fault(wanted);
    if (fault !== undefined || 'fault' in this.#parent) throw noUsableParent(wanted, fault ?? 'it is gone');
    return await openBackupDisk(this.#parent, wanted.disk, { ...options, readAhead: false });
  }

  #fault({ disk, sizeBytes, bitmapName }: FollowedDisk): string | undefined {
    if ('fault' in this.#parent) return this.#parent.fault;
    const { name, manifest, source } = this.#parent;
    const before = manifest.disks.find((each) => each.name === disk && each.kind === 'disk');
    if (before === undefined) return `the disk is not in the latest backup, ${name}`;
    if (before.bitmapName === '') return `no dirty bitmap follows the latest backup, ${name}`;
    if (before.bitmapName !== bitmapName) return `the bitmap that follows ${name} is ${before.bitmapName}`;
    if (before.sizeBytes !== sizeBytes)
      return `the disk had ${before.sizeBytes} bytes in ${name}, and has ${sizeBytes}`;
    const { clusterSizeBytes, hash } = this.#store.superblock;
    if (before.clusterSizeBytes !== clusterSizeBytes || manifest.hash !== hash) {
      return `${name} was made with other parameters than the datastore's`;
    }
    if (!(source instanceof DatastoreChunks)) return undefined;
    const missing = this.#packs.find((packId) => source.pack(packId) === undefined);
    if (missing !== undefined) return `a pack of ${name} is gone or damaged: ${missing}`;
    const { fault: damage } = ParentDamage.of(source, source.damage, this.#packs);
    return damage === undefined ? undefined : `${name} is damaged: ${damage}`;
  }

  async close(): Promise<void> {
    if (!('fault' in this.#parent)) await this.#parent.close();
  }
}

/** Labels that cannot be read may have said so. */
function isLaterRemoved(parent: OpenBackup): boolean {
  try {
    return parent.sidecar?.isLaterRemoved === true;
  } catch (error) {
    if (error instanceof DamageError) return true;
    throw error;
  }
}

function noUsableParent({ disk, bitmapName }: FollowedDisk, reason: string): FailedError {
  return new FailedError('no-usable-parent', `the disk cannot be backed up by its bitmap: ${reason}`, {
    object: disk,
    advice: `Back it up in full, which begins the bitmap anew: --bitmap ${disk}=${bitmapName}:new.`,
  });
}
