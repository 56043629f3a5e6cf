// SPDX-License-Identifier: MIT
// `--paranoid`: all of a disk is read, and what its bitmap calls unchanged is compared with the last backup.

import { openBackupDisk } from '../archive/backup-disk.js';
import { type OpenBackup, openBackup } from '../archive/open-backup.js';
import { FailedError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import type { DirtyBitmap } from '../block/dirty-bitmap.js';
import { ComparedDevice } from '../block/filters/compared.js';
import { formatBackupId, type GuestRef } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import { latestBackup } from '../store/manifests.js';

export class Paranoia {
  readonly #backup: OpenBackup;
  readonly #compared: { readonly name: string; readonly device: ComparedDevice }[] = [];

  private constructor(backup: OpenBackup) {
    this.#backup = backup;
  }

  /** Undefined where there is no backup to compare with. The guest's lock is held. */
  static async open(store: Datastore, guest: GuestRef): Promise<Paranoia | undefined> {
    const latest = await latestBackup(store.root, guest);
    return latest === undefined ? undefined : new Paranoia(await openBackup(store, formatBackupId(latest)));
  }

  async watch(name: string, device: BlockDevice, changes: DirtyBitmap): Promise<BlockDevice> {
    const compared = new ComparedDevice(device, await openBackupDisk(this.#backup, name), changes);
    this.#compared.push({ name, device: compared });
    return compared;
  }

  /** To be called when all is read. @throws FailedError 'bitmap-wrong' */
  check(): void {
    for (const { name, device } of this.#compared) {
      const { difference } = device;
      if (difference === undefined) continue;
      throw new FailedError('bitmap-wrong', `disk ${name} changed where its dirty bitmap says that it did not`, {
        object: name,
        offsetBytes: difference.offsetBytes,
        advice: 'This backup is right, since all was read; earlier incremental ones of the disk may not be.',
      });
    }
  }

  async close(): Promise<void> {
    await this.#backup.close();
  }
}
