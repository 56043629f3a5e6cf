// SPDX-License-Identifier: MIT
// One flush of a device at a time, for all who ask. Each that asks while one runs is served by the next, which begins
// later than it asked: the running one may have begun before its writes. Flushes side by side would each take a thread
// from the reads for nothing.

import type { BlockDevice } from '../../block/device.js';

export class FlushGate {
  readonly #device: BlockDevice;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(device: BlockDevice) {
    this.#device = device;
  }

  /** As `BlockDevice.flush`: resolves when all writes that resolved before the call are durable. */
  flush(): Promise<void> {
    if (this.#running === undefined) return this.#begin();
    this.#next ??= this.#running.then(
      () => this.#begin(),
      () => this.#begin(),
    );
    return this.#next;
  }

  #begin(): Promise<void> {
    this.#next = undefined;
    const flush = this.#device.flush().finally(() => {
      if (this.#running === flush) this.#running = undefined;
    });
    this.#running = flush;
    return flush;
  }
}
