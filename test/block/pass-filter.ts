// SPDX-License-Identifier: MIT
// A filter that passes everything on, and knows how much it passed and whether it was used when it should not be.

import { BugError } from '#vmar/src/base/errors.js';
import type { BlockNode, FilterDevice } from '#vmar/src/block/block-node.js';

export interface PassOptions {
  /** Each request waits for it before and after. */
  readonly pause?: () => Promise<void>;
  readonly onDetach?: () => Promise<void> | void;
}

export class PassFilter implements FilterDevice {
  requests = 0;
  inside = 0;
  detached = false;

  constructor(
    readonly below: BlockNode,
    readonly options: PassOptions = {},
  ) {}

  get name(): string {
    return this.below.name;
  }

  get lengthBytes(): number {
    return this.below.lengthBytes;
  }

  get alignmentBytes(): number {
    return this.below.alignmentBytes;
  }

  get readOnly(): boolean {
    return this.below.readOnly;
  }

  read(offsetBytes: number, into: Uint8Array) {
    return this.#pass(() => this.below.read(offsetBytes, into));
  }

  write(offsetBytes: number, from: Uint8Array) {
    return this.#pass(() => this.below.write(offsetBytes, from));
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, options?: { keepAllocated?: boolean }) {
    return this.#pass(() => this.below.writeZeroes(offsetBytes, lengthBytes, options));
  }

  discard(offsetBytes: number, lengthBytes: number) {
    return this.#pass(() => this.below.discard(offsetBytes, lengthBytes));
  }

  flush() {
    return this.#pass(() => this.below.flush());
  }

  blockStatus(offsetBytes: number, lengthBytes: number) {
    return this.#pass(() => this.below.blockStatus(offsetBytes, lengthBytes));
  }

  async detach(): Promise<void> {
    if (this.inside > 0) throw new BugError(`${this.inside} requests are in a filter that leaves`);
    await this.options.onDetach?.();
    this.detached = true;
  }

  close(): Promise<void> {
    return this.below.close();
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
