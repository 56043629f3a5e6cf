// SPDX-License-Identifier: MIT
// A live restore's target with its journal: a flush of it makes durable what the journal says of it, too.
//
// Guarantees: a flush resolves when all writes that resolved before it are durable in the target, and every record of
// before it in the journal. A checkpoint never covers a record that came while the target was being flushed, since that
// record's data may have missed it. A flush that failed is told to the journal, and fails.

import type { BlockDevice, BlockExtent } from '../block/device.js';
import { checkRange } from '../block/range.js';
import type { Journal } from './journal.js';

export class RecordedTarget implements BlockDevice {
  readonly readOnly = false;
  readonly alignmentBytes: number;
  readonly name: string;
  readonly fd?: number;
  readonly #device: BlockDevice;
  /** Set until the target holds all. */
  #journal: Journal | undefined;
  #running: Promise<void> | undefined;
  /** Has not begun yet, so that it serves all who ask until then. */
  #waiting: Promise<void> | undefined;

  /** @param lengthBytes of the disk; the device may be longer */
  constructor(
    device: BlockDevice,
    readonly lengthBytes: number,
  ) {
    this.#device = device;
    this.name = device.name;
    this.alignmentBytes = device.alignmentBytes;
    if (device.fd !== undefined) this.fd = device.fd;
  }

  /** Takes the journal in, or, where the target holds all, out. */
  set journal(journal: Journal | undefined) {
    this.#journal = journal;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    await this.#device.read(offsetBytes, into);
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, from.byteLength);
    await this.#device.write(offsetBytes, from);
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number, options?: { keepAllocated?: boolean }): Promise<void> {
    checkRange(this, offsetBytes, lengthBytes);
    await this.#device.writeZeroes(offsetBytes, lengthBytes, options);
  }

  async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    checkRange(this, offsetBytes, lengthBytes);
    await this.#device.discard(offsetBytes, lengthBytes);
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    return await this.#device.blockStatus(offsetBytes, lengthBytes);
  }

  /** One at a time: of two at once the kernel tells only one that something was lost. */
  flush(): Promise<void> {
    this.#waiting ??= this.#flushAfter(this.#running);
    return this.#waiting;
  }

  async #flushAfter(before: Promise<void> | undefined): Promise<void> {
    await before?.catch(() => undefined);
    this.#running = this.#waiting;
    this.#waiting = undefined;
    await this.#flushNow();
  }

  async #flushNow(): Promise<void> {
    const journal = this.#journal;
    const covered = journal?.lastSequence ?? 0;
    try {
      await this.#device.flush();
    } catch (error) {
      await journal?.distrust().catch(() => undefined);
      throw error;
    }
    await journal?.checkpoint(covered);
  }

  async close(): Promise<void> {
    await this.#device.close();
  }
}
