// SPDX-License-Identifier: MIT
// The cluster ids of a stream whose length is not yet known: in scratch, with a bit a cluster in memory.

import { UsageError } from '../base/errors.js';
import type { Scratch } from './scratch.js';

export class StreamIds {
  readonly #scratch: Scratch;
  #present = new Uint8Array(4096);
  /** One past the highest cluster that was set. */
  clusters = 0;

  constructor(scratch: Scratch) {
    this.#scratch = scratch;
  }

  get scratchBytes(): number {
    return this.clusters * 32;
  }

  set(cluster: number, id: Uint8Array | undefined): void {
    const byte = Math.floor(cluster / 8);
    while (byte >= this.#present.length) {
      const larger = new Uint8Array(this.#present.length * 2);
      larger.set(this.#present);
      this.#present = larger;
    }
    const bit = 1 << (cluster & 7);
    if ((this.#present[byte]! & bit) !== 0) {
      throw new UsageError('cluster-twice', `cluster ${cluster} of a stream was dumped twice`);
    }
    this.#present[byte]! |= bit;
    this.clusters = Math.max(this.clusters, cluster + 1);
    if (id !== undefined) this.#scratch.write(cluster * 32, id);
  }

  /** undefined if it was never set. */
  get(cluster: number): Uint8Array | 'zero' | undefined {
    const byte = Math.floor(cluster / 8);
    if (((this.#present[byte] ?? 0) & (1 << (cluster & 7))) === 0) return undefined;
    const id = new Uint8Array(32);
    this.#scratch.read(cluster * 32, id);
    return id.every((value) => value === 0) ? 'zero' : id;
  }
}
