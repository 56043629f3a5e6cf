// SPDX-License-Identifier: MIT
// What shows where a target holds nothing: a device, zeros behind its end, zeros everywhere once it is gone.

import type { BlockDevice, BlockExtent } from '../device.js';

export class Backing {
  #device: BlockDevice | undefined;
  /** Requests in the device. */
  #uses = 0;
  #waiters: (() => void)[] = [];

  constructor(device: BlockDevice | undefined) {
    this.#device = device;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    const device = this.#device;
    const stored = Math.max(0, Math.min(into.byteLength, (device?.lengthBytes ?? 0) - offsetBytes));
    into.fill(0, stored);
    if (device === undefined || stored === 0) return;
    await this.#use(() => device.read(offsetBytes, into.subarray(0, stored)));
  }

  /** For a range that is not empty. All is backed, the zeros behind the end too; without a device it is plain zeros. */
  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    const device = this.#device;
    if (device === undefined) return [{ offsetBytes, lengthBytes, state: 'zero' }];
    const stored = Math.min(lengthBytes, device.lengthBytes - offsetBytes);
    if (stored <= 0) return [{ offsetBytes, lengthBytes, state: 'zero', backed: true }];
    const extents = await this.#use(() => device.blockStatus(offsetBytes, stored));
    return extents.map((extent) => ({ ...extent, backed: true }));
  }

  async prefetch(offsetBytes: number, lengthBytes: number): Promise<void> {
    const device = this.#device;
    const stored = Math.min(lengthBytes, (device?.lengthBytes ?? 0) - offsetBytes);
    if (device?.prefetch === undefined || stored <= 0) return;
    await this.#use(async () => device.prefetch?.(offsetBytes, stored));
  }

  /** Resolves when nothing uses the device any more. */
  async detach(): Promise<void> {
    this.#device = undefined;
    if (this.#uses > 0) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  async #use<T>(request: () => Promise<T>): Promise<T> {
    this.#uses++;
    try {
      return await request();
    } finally {
      this.#uses--;
      if (this.#uses === 0) for (const wake of this.#waiters.splice(0)) wake();
    }
  }
}
