// SPDX-License-Identifier: MIT
// What devices that cannot be written to have in common.

import type { BlockDevice, BlockExtent } from './device.js';
import { checkWritable } from './range.js';

/** Refuses everything that would change it; has nothing to flush. */
export abstract class ReadOnlyDevice implements BlockDevice {
  abstract readonly name: string;
  abstract readonly lengthBytes: number;
  abstract readonly alignmentBytes: number;
  readonly readOnly = true;

  abstract read(offsetBytes: number, into: Uint8Array): Promise<void>;
  abstract blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]>;
  abstract close(): Promise<void>;

  async write(): Promise<void> {
    checkWritable(this);
  }

  async writeZeroes(): Promise<void> {
    checkWritable(this);
  }

  async discard(): Promise<void> {
    checkWritable(this);
  }

  async flush(): Promise<void> {}
}
