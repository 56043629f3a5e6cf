// SPDX-License-Identifier: MIT
// A target that a guest uses by itself: whoever is still connected to the export may read it, and changes nothing.

import type { BlockDevice, BlockExtent } from '../../block/device.js';
import { ReadOnlyDevice } from '../../block/read-only-device.js';

export class MovedTarget extends ReadOnlyDevice {
  readonly name: string;
  readonly lengthBytes: number;
  readonly alignmentBytes: number;
  readonly #target: BlockDevice;

  constructor(target: BlockDevice) {
    super();
    this.name = target.name;
    this.lengthBytes = target.lengthBytes;
    this.alignmentBytes = target.alignmentBytes;
    this.#target = target;
  }

  read(offsetBytes: number, into: Uint8Array): Promise<void> {
    return this.#target.read(offsetBytes, into);
  }

  blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return this.#target.blockStatus(offsetBytes, lengthBytes);
  }

  close(): Promise<void> {
    return this.#target.close();
  }
}
