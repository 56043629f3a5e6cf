// SPDX-License-Identifier: MIT
// A disk as it is now, put together from what changed since a backup and from that backup.
//
// Guarantee: the source is asked, for content and for status, only where the bitmap is dirty: servers refuse the rest.
// Wherever it is clean the bytes are the parent's, checked against their ids. So all of the disk can be read, also the
// clean part of a cluster that is dirty in part.

import { DamageError, FailedError, UsageError } from '../base/errors.js';
import type { BlockDevice, BlockExtent } from '../block/device.js';
import type { DirtyBitmap } from '../block/dirty-bitmap.js';
import { checkRange } from '../block/range.js';
import { ReadOnlyDevice } from '../block/read-only-device.js';

export interface DirtyOverParentOptions {
  /** The disk as it is now, where it is dirty. */
  readonly source: BlockDevice;
  /** The disk as it was, of the same length: a BackupDisk. */
  readonly parent: BlockDevice;
  /** What changed between the two, as fine as the source tells it. Kept, not copied. */
  readonly dirty: DirtyBitmap;
}

/** Both devices become its own: `close` closes them. */
export class DirtyOverParent extends ReadOnlyDevice {
  override readonly name: string;
  override readonly lengthBytes: number;
  override readonly alignmentBytes: number;
  readonly #source: BlockDevice;
  readonly #parent: BlockDevice;
  readonly #dirty: DirtyBitmap;

  /** @throws UsageError where the lengths differ */
  constructor({ source, parent, dirty }: DirtyOverParentOptions) {
    super();
    for (const lengthBytes of [parent.lengthBytes, dirty.lengthBytes]) {
      if (lengthBytes === source.lengthBytes) continue;
      throw new UsageError('bad-parent', 'the disk has another length than what it is compared with', {
        object: source.name,
        expected: `${lengthBytes} bytes`,
        found: `${source.lengthBytes} bytes`,
      });
    }
    this.name = source.name;
    this.lengthBytes = source.lengthBytes;
    this.alignmentBytes = source.alignmentBytes;
    this.#source = source;
    this.#parent = parent;
    this.#dirty = dirty;
  }

  /** Rejects with FailedError 'parent-damaged' where the parent does not have the clean bytes any more. */
  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    const end = offsetBytes + into.byteLength;
    const reads: Promise<void>[] = [];
    for (let at = offsetBytes; at < end; ) {
      const dirtyAt = this.#dirty.nextDirty(at, end) ?? end;
      if (dirtyAt > at) reads.push(this.#readParent(at, into.subarray(at - offsetBytes, dirtyAt - offsetBytes)));
      const cleanAt = dirtyAt < end ? (this.#dirty.nextClean(dirtyAt, end) ?? end) : end;
      const dirty = into.subarray(dirtyAt - offsetBytes, cleanAt - offsetBytes);
      if (dirty.byteLength > 0) reads.push(this.#source.read(dirtyAt, dirty));
      at = cleanAt;
    }
    // All of them, as each may still use the caller's memory.
    for (const outcome of await Promise.allSettled(reads)) if (outcome.status === 'rejected') throw outcome.reason;
  }

  async #readParent(offsetBytes: number, into: Uint8Array): Promise<void> {
    try {
      await this.#parent.read(offsetBytes, into);
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      throw new FailedError('parent-damaged', `what did not change cannot be had from ${this.#parent.name}`, {
        ...{ object: this.name, offsetBytes, cause: error, found: error.message },
        advice: 'Back the disk up in full, and run `vmar verify`.',
      });
    }
  }

  /** As far as dirty and clean do not take turns. What is clean is the parent's: `backed`. */
  override async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    if (lengthBytes === 0) return [];
    const end = offsetBytes + lengthBytes;
    const dirtyAt = this.#dirty.nextDirty(offsetBytes, end) ?? end;
    if (dirtyAt > offsetBytes) {
      const extents = await this.#parent.blockStatus(offsetBytes, dirtyAt - offsetBytes);
      return extents.map((extent) => ({ ...extent, backed: true }));
    }
    const cleanAt = this.#dirty.nextClean(offsetBytes, end) ?? end;
    const extents = await this.#source.blockStatus(offsetBytes, cleanAt - offsetBytes);
    return extents.map((extent) => ({ ...extent, backed: false }));
  }

  override async close(): Promise<void> {
    try {
      await this.#parent.close();
    } finally {
      await this.#source.close();
    }
  }
}
