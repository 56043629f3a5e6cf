// SPDX-License-Identifier: MIT
// A part of a device, as a device.

import type { BlockDevice, BlockExtent } from '../../block/device.js';
import { checkRange } from '../../block/range.js';

/** Does not close the device. */
export class SliceDevice implements BlockDevice {
  readonly name: string;
  readonly lengthBytes: number;
  readonly #below: BlockDevice;
  readonly #from: number;

  constructor(below: BlockDevice, name: string, offsetBytes: number, lengthBytes: number) {
    checkRange(below, offsetBytes, lengthBytes);
    this.#below = below;
    this.name = name;
    this.#from = offsetBytes;
    this.lengthBytes = lengthBytes;
  }

  get alignmentBytes(): number {
    const { alignmentBytes } = this.#below;
    return this.#from % alignmentBytes === 0 ? alignmentBytes : 1;
  }

  get readOnly(): boolean {
    return this.#below.readOnly;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    await this.#below.read(this.#from + offsetBytes, into);
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, from.byteLength);
    await this.#below.write(this.#from + offsetBytes, from);
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number, options?: { keepAllocated?: boolean }): Promise<void> {
    checkRange(this, offsetBytes, lengthBytes);
    await this.#below.writeZeroes(this.#from + offsetBytes, lengthBytes, options);
  }

  async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    checkRange(this, offsetBytes, lengthBytes);
    await this.#below.discard(this.#from + offsetBytes, lengthBytes);
  }

  async flush(): Promise<void> {
    await this.#below.flush();
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    const extents = await this.#below.blockStatus(this.#from + offsetBytes, lengthBytes);
    return extents.map((extent) => ({ ...extent, offsetBytes: extent.offsetBytes - this.#from }));
  }

  async close(): Promise<void> {}
}
