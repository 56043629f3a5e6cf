// SPDX-License-Identifier: MIT
// A device that is compared, as it is read, with what it should be where it is said not to have changed.

import type { BlockDevice, BlockExtent } from '../device.js';
import type { DirtyBitmap, DirtyRange } from '../dirty-bitmap.js';
import { ReadOnlyDevice } from '../read-only-device.js';

/**
 * Reads are those of `now`. What `changes` calls clean is compared with `before`, to the byte; holes there are told as
 * data, so that they are read and compared too.
 */
export class ComparedDevice extends ReadOnlyDevice {
  override readonly name: string;
  override readonly lengthBytes: number;
  override readonly alignmentBytes: number;
  /** The first range that differs, of those that were read. */
  difference: DirtyRange | undefined;

  /** All three of one length. */
  constructor(
    private readonly now: BlockDevice,
    private readonly before: BlockDevice,
    private readonly changes: DirtyBitmap,
  ) {
    super();
    this.name = now.name;
    this.lengthBytes = now.lengthBytes;
    this.alignmentBytes = now.alignmentBytes;
  }

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    await this.now.read(offsetBytes, into);
    for (const { offsetBytes: at, lengthBytes } of this.#clean(offsetBytes, into.byteLength)) {
      const expected = new Uint8Array(lengthBytes);
      await this.before.read(at, expected);
      const found = into.subarray(at - offsetBytes, at - offsetBytes + lengthBytes);
      if (Buffer.compare(found, expected) !== 0) this.difference ??= { offsetBytes: at, lengthBytes };
    }
  }

  *#clean(offsetBytes: number, lengthBytes: number): Generator<DirtyRange> {
    const end = offsetBytes + lengthBytes;
    for (let from = this.changes.nextClean(offsetBytes, end); from !== undefined; ) {
      const to = this.changes.nextDirty(from, end) ?? end;
      yield { offsetBytes: from, lengthBytes: to - from };
      from = to < end ? this.changes.nextClean(to, end) : undefined;
    }
  }

  override async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    const end = offsetBytes + lengthBytes;
    const dirtyAt = this.changes.nextDirty(offsetBytes, end) ?? end;
    if (dirtyAt > offsetBytes) return [{ offsetBytes, lengthBytes: dirtyAt - offsetBytes, state: 'data' }];
    const cleanAt = this.changes.nextClean(offsetBytes, end) ?? end;
    return await this.now.blockStatus(offsetBytes, cleanAt - offsetBytes);
  }

  /** Closes both. */
  override async close(): Promise<void> {
    await this.now.close();
    await this.before.close();
  }
}
