// SPDX-License-Identifier: MIT
// Memory that takes its time.

import { MemoryDevice } from '#vmar/src/block/memory-device.js';

/** A device whose reads and writes wait until they are let go. */
export class SlowDevice extends MemoryDevice {
  readonly waiting: (() => void)[] = [];
  #open = false;

  letGo(): void {
    this.#open = true;
    for (const go of this.waiting.splice(0)) go();
  }

  async #wait(): Promise<void> {
    if (!this.#open) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    await this.#wait();
    await super.read(offsetBytes, into);
  }

  override async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    await this.#wait();
    await super.write(offsetBytes, from);
  }
}
