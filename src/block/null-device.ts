// SPDX-License-Identifier: MIT
// A device that is nowhere: it reads as zeros and swallows what is written to it.

import type { BlockDevice, BlockExtent } from './device.js';
import { checkRange, checkWritable } from './range.js';

export interface NullDeviceOptions {
  readonly name?: string;
  readonly readOnly?: boolean;
}

export class NullDevice implements BlockDevice {
  readonly name: string;
  readonly alignmentBytes = 1;
  readonly readOnly: boolean;

  constructor(
    readonly lengthBytes: number,
    options: NullDeviceOptions = {},
  ) {
    this.name = options.name ?? 'null';
    this.readOnly = options.readOnly ?? false;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    into.fill(0);
  }

  write(offsetBytes: number, from: Uint8Array): Promise<void> {
    return this.#swallow(offsetBytes, from.byteLength);
  }

  writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#swallow(offsetBytes, lengthBytes);
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#swallow(offsetBytes, lengthBytes);
  }

  async #swallow(offsetBytes: number, lengthBytes: number): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
  }

  async flush(): Promise<void> {}

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    return lengthBytes === 0 ? [] : [{ offsetBytes, lengthBytes, state: 'zero' }];
  }

  async close(): Promise<void> {}
}
