// SPDX-License-Identifier: MIT
// A filter that passes everything on, and knows how much it passed and whether it was used when it should not be.

import { BugError } from '#vmar/src/base/errors.js';
import type { BlockNode } from '#vmar/src/block/block-node.js';
import { PassThrough } from '#vmar/src/block/filters/pass-through.js';

export interface PassOptions {
  /** Each request waits for it before and after. */
  readonly pause?: () => Promise<void>;
  readonly onDetach?: () => Promise<void> | void;
}

export class PassFilter extends PassThrough {
  requests = 0;
  inside = 0;
  detached = false;

  constructor(
    below: BlockNode,
    readonly options: PassOptions = {},
  ) {
    super(below);
  }

  override read(offsetBytes: number, into: Uint8Array) {
    return this.#pass(() => this.below.read(offsetBytes, into));
  }

  override write(offsetBytes: number, from: Uint8Array) {
    return this.#pass(() => this.below.write(offsetBytes, from));
  }

  override writeZeroes(offsetBytes: number, lengthBytes: number, options?: { keepAllocated?: boolean }) {
    return this.#pass(() => this.below.writeZeroes(offsetBytes, lengthBytes, options));
  }

  override discard(offsetBytes: number, lengthBytes: number) {
    return this.#pass(() => this.below.discard(offsetBytes, lengthBytes));
  }

  override flush() {
    return this.#pass(() => this.below.flush());
  }

  override blockStatus(offsetBytes: number, lengthBytes: number) {
    return this.#pass(() => this.below.blockStatus(offsetBytes, lengthBytes));
  }

  async detach(): Promise<void> {
    if (this.inside > 0) throw new BugError(`${this.inside} requests are in a filter that leaves`);
    await this.options.onDetach?.();
    this.detached = true;
  }

  async #pass<T>(request: () => Promise<T>): Promise<T> {
    if (this.detached) throw new BugError('a request came to a filter that was taken out');
    this.requests++;
    this.inside++;
    try {
      await this.options.pause?.();
      const result = await request();
      await this.options.pause?.();
      return result;
    } finally {
      this.inside--;
    }
  }
}
