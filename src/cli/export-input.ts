// SPDX-License-Identifier: MIT
// NBD exports as what a backup reads: in full, or by their dirty bitmaps.

import { DirtyOverParent } from '../archive/dirty-over-parent.js';
import { FollowedParent } from '../archive/followed-parent.js';
import { FailedError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import type { DirtyBitmap } from '../block/dirty-bitmap.js';
import { ReadOnceDevice } from '../block/filters/read-once.js';
import type { BackupJobDisk } from '../jobs/backup-job.js';
import { openNbdDevice } from '../nbd/client/nbd-client.js';
import { readDirtyBitmap } from '../nbd/client/read-dirty-bitmap.js';
import type { Executor } from '../pipeline/executor.js';
import type { GuestRef } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import type { Context } from './context.js';
import type { DiskPair } from './parse-disk.js';

const READING_CONNECTIONS = 4;

export interface ExportOptions {
  readonly discardSource: boolean;
  readonly signal: AbortSignal;
}

/** All of an export. */
export async function openExport({ log }: Context, uri: string, options: ExportOptions): Promise<BlockDevice> {
  const { discardSource, signal } = options;
  const open = { log, signal, connections: READING_CONNECTIONS };
  if (!discardSource) return await openNbdDevice(uri, { ...open, readOnly: true });
  try {
    return new ReadOnceDevice(await openNbdDevice(uri, { ...open, readOnly: false }), { log });
  } catch (error) {
    if (!(error instanceof FailedError && error.code === 'read-only-export')) throw error;
    log.warn(`${uri} is exported for reading only: nothing of it is discarded`);
    return await openNbdDevice(uri, { ...open, readOnly: true });
  }
}

export interface ChangesOptions extends ExportOptions {
  readonly store: Datastore;
  /** Its lock is held. */
  readonly guest: GuestRef;
  readonly expectedParent: string | undefined;
  readonly executor: Executor;
}

/** Disks of which the guest's latest backup has what did not change since. */
export class ChangedExports {
  readonly #context: Context;
  readonly #options: ChangesOptions;
  #parent: FollowedParent | undefined;

  constructor(context: Context, options: ChangesOptions) {
    this.#context = context;
    this.#options = options;
  }

  async open({ name, place }: DiskPair, bitmapName: string): Promise<BackupJobDisk> {
    const { store, guest, expectedParent, executor } = this.#options;
    const dirty = await this.#readBitmap(place, bitmapName);
    this.#parent ??= await FollowedParent.open(store, guest, expectedParent);
    const wanted = { disk: name, sizeBytes: dirty.lengthBytes, bitmapName };
    const { log } = this.#context;
    if (expectedParent === undefined) {
      log.warn(`${name}: give --parent BACKUP too: a name alone does not say which backup the bitmap follows`);
    }
    const parent = await this.#parent.openDisk(wanted, { executor, log });
    try {
      for (const { offsetBytes, lengthBytes } of await this.#parent.damagedRanges(wanted)) {
        log.info(
          `${name}: ${lengthBytes} bytes from ${offsetBytes} on are read again: there the last backup is damaged`,
        );
        dirty.set(offsetBytes, lengthBytes);
      }
      const source = await openExport(this.#context, place, this.#options);
      const device = new DirtyOverParent({ source, parent, dirty });
      log.debug(`${name}: ${dirty.dirtyBytes} bytes changed since the last backup`);
      return { device, sync: { mode: 'incremental', bitmap: dirty, afterwards: 'keep' } };
    } catch (error) {
      await parent.close();
      throw error;
    }
  }

  /** On a connection of its own, for the bitmap alone: see `bitmapAlone`. */
  async #readBitmap(uri: string, bitmap: string): Promise<DirtyBitmap> {
    const { store, signal } = this.#options;
    const options = { readOnly: true, bitmap, bitmapAlone: true, connections: 1, signal, log: this.#context.log };
    const device = await openNbdDevice(uri, options);
    try {
      return await readDirtyBitmap(device, store.superblock.clusterSizeBytes);
    } finally {
      await device.close();
    }
  }

  /** After the disks. */
  async close(): Promise<void> {
    await this.#parent?.close();
  }
}
