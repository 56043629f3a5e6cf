// SPDX-License-Identifier: MIT
// The export of a snapshot, as a device that knows what it means when a read is refused.

import { FailedError } from '../../src/base/errors.js';
import type { BlockDevice, BlockExtent, DirtyStretch } from '../../src/plugin-api.js';
import type { ExportDevice } from './source-qemu.js';

export class SnapshotDevice implements BlockDevice {
  readonly name: string;
  readonly lengthBytes: number;
  readonly alignmentBytes: number;
  readonly readOnly = true;
  readonly #below: BlockDevice;
  readonly #fleeceDirectory: string;

  constructor(below: BlockDevice, fleeceDirectory: string) {
    this.name = below.name;
    this.lengthBytes = below.lengthBytes;
    this.alignmentBytes = below.alignmentBytes;
    this.#below = below;
    this.#fleeceDirectory = fleeceDirectory;
  }

  read(offsetBytes: number, into: Uint8Array): Promise<void> {
    return this.#explained(this.#below.read(offsetBytes, into));
  }

  blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return this.#explained(this.#below.blockStatus(offsetBytes, lengthBytes));
  }

  /** What the bitmap of the export, `from`, says of the range; refused too once the snapshot is given up. */
  changes(from: ExportDevice, offsetBytes: number, lengthBytes: number): Promise<readonly DirtyStretch[]> {
    return this.#explained(from.dirtyStatus(offsetBytes, lengthBytes));
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#below.discard(offsetBytes, lengthBytes);
  }

  async write(): Promise<void> {
    throw readOnly(this.name);
  }

  async writeZeroes(): Promise<void> {
    throw readOnly(this.name);
  }

  async flush(): Promise<void> {}

  /** The connection is the snapshot's. */
  async close(): Promise<void> {}

  /** QEMU says no more than that the argument is invalid. */
  async #explained<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      if (!(error instanceof FailedError) || error.code !== 'read-failed') throw error;
      const message =
        'QEMU gave up the snapshot rather than hold up the guest: what the guest changes could not be put aside';
      throw new FailedError('snapshot-broken', message, {
        object: this.name,
        found: error.message,
        advice: `Give a fleecing directory with more room or a faster disk than ${this.#fleeceDirectory}: --fleece DIR.`,
        cause: error,
      });
    }
  }
}

function readOnly(object: string): FailedError {
  return new FailedError('read-only', 'a snapshot is not written to', { object });
}
