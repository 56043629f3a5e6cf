// SPDX-License-Identifier: MIT
// A device in memory that takes its time, so that requests meet in every order: pauses of random length before and after,
// and writes that arrive in two halves. At any moment `content` shows what a power-off of its user would leave.

import type { BlockDevice, BlockExtent } from '#vmar/src/block/device.js';
import { checkRange } from '#vmar/src/block/range.js';
import type { Random } from '../base/random.js';

export const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

export class SlowDevice implements BlockDevice {
  readonly name = 'slow';
  readonly alignmentBytes = 1;
  readonly readOnly = false;
  reads = 0;
  writes = 0;
  zeroWrites = 0;
  discards = 0;
  /** Requests that came after it was turned off change nothing. */
  isOff = false;
  /** A read is answered a while after it looked. */
  answersLate = true;

  constructor(
    readonly content: Uint8Array,
    readonly random?: Random,
    /** Of blockStatus: pieces of this size that are zero as a whole are `zero`. */
    readonly statusBytes = 4096,
  ) {}

  get lengthBytes(): number {
    return this.content.length;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    this.reads++;
    await this.#pause();
    into.set(this.content.subarray(offsetBytes, offsetBytes + into.byteLength));
    if (this.answersLate) await this.#pause();
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, from.byteLength);
    this.writes++;
    await this.#change(offsetBytes, Buffer.from(from));
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    checkRange(this, offsetBytes, lengthBytes);
    this.zeroWrites++;
    await this.#change(offsetBytes, Buffer.alloc(lengthBytes));
  }

  /** Leaves rubbish, as it may. */
  async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    checkRange(this, offsetBytes, lengthBytes);
    this.discards++;
    await this.#change(offsetBytes, Buffer.alloc(lengthBytes, 0xdd));
  }

  async #change(offsetBytes: number, bytes: Uint8Array): Promise<void> {
    const middle = bytes.length >> 1;
    await this.#pause();
    if (!this.isOff) this.content.set(bytes.subarray(0, middle), offsetBytes);
    await this.#pause();
    if (!this.isOff) this.content.set(bytes.subarray(middle), offsetBytes + middle);
    await this.#pause();
  }

  async flush(): Promise<void> {
    await this.#pause();
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    await this.#pause();
    const extents: BlockExtent[] = [];
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end; ) {
      const to = Math.min(end, at - (at % this.statusBytes) + this.statusBytes);
      const isZero = this.content.subarray(at, to).every((byte) => byte === 0);
      extents.push({ offsetBytes: at, lengthBytes: to - at, state: isZero ? 'zero' : 'data' });
      at = to;
    }
    return extents;
  }

  async close(): Promise<void> {}

  async #pause(): Promise<void> {
    for (let turns = this.random?.integer(0, 2) ?? 0; turns > 0; turns--) await settle();
  }
}
