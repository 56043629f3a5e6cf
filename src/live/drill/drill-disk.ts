// SPDX-License-Identifier: MIT
// A disk of a backup that a drill may write to: what is written lies in a scratch file, the rest shows through from the
// backup.
//
// Guarantee: nothing is written to the backup. Damage that the drill met is remembered.

import { open } from 'node:fs/promises';
import type { BackupDisk } from '../../archive/backup-disk.js';
import { DamageError } from '../../base/errors.js';
import { BlockNode } from '../../block/block-node.js';
import type { BlockExtent } from '../../block/device.js';
import { openFileDevice } from '../../block/file-device.js';
import { ReadOnlyDevice } from '../../block/read-only-device.js';
import { insertBacking } from '../../jobs/stream-node.js';

export class DrillDisk {
  readonly name: string;
  /** To be written to. */
  readonly node: BlockNode;
  readonly #watched: WatchedDisk;

  private constructor(name: string, node: BlockNode, watched: WatchedDisk) {
    this.name = name;
    this.node = node;
    this.#watched = watched;
  }

  /** @param scratchPath a file to be made; as large as what is written. The backup's disk stays the caller's. */
  static async open(disk: BackupDisk, scratchPath: string): Promise<DrillDisk> {
    const file = await open(scratchPath, 'wx', 0o600);
    try {
      await file.truncate(disk.lengthBytes);
    } finally {
      await file.close();
    }
    const node = new BlockNode(await openFileDevice(scratchPath, { readOnly: false }));
    const watched = new WatchedDisk(disk);
    await insertBacking(node, watched, { targetIsZero: true });
    return new DrillDisk(disk.disk.name, node, watched);
  }

  /** The first damage that was met. */
  get damage(): DamageError | undefined {
    return this.#watched.damage;
  }

  async close(): Promise<void> {
    await this.node.close();
  }
}

class WatchedDisk extends ReadOnlyDevice {
  readonly name: string;
  readonly lengthBytes: number;
  readonly alignmentBytes: number;
  readonly #disk: BackupDisk;
  damage: DamageError | undefined;

  constructor(disk: BackupDisk) {
    super();
    this.#disk = disk;
    this.name = disk.name;
    this.lengthBytes = disk.lengthBytes;
    this.alignmentBytes = disk.alignmentBytes;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    try {
      await this.#disk.read(offsetBytes, into);
    } catch (error) {
      if (error instanceof DamageError) this.damage ??= error;
      throw error;
    }
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return await this.#disk.blockStatus(offsetBytes, lengthBytes);
  }

  async prefetch(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#disk.prefetch(offsetBytes, lengthBytes);
  }

  async close(): Promise<void> {}
}
