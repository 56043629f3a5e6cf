// SPDX-License-Identifier: MIT
// A target that a guest uses by itself. Whoever is still connected to its export is answered, and can change nothing.

import { FailedError } from '../../base/errors.js';
import type { BlockDevice, BlockExtent } from '../../block/device.js';

/** Announced as writable: a client that comes back takes nothing else for the same export. */
export class MovedTarget implements BlockDevice {
  readonly readOnly = false;
  readonly name: string;
  readonly lengthBytes: number;
  readonly alignmentBytes: number;
  readonly #target: BlockDevice;

  constructor(target: BlockDevice) {
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

  async write(): Promise<void> {
    throw moved(this.name);
  }

  async writeZeroes(): Promise<void> {
    throw moved(this.name);
  }

  async discard(): Promise<void> {
    throw moved(this.name);
  }

  async flush(): Promise<void> {}

  close(): Promise<void> {
    return this.#target.close();
  }
}

function moved(object: string): FailedError {
  return new FailedError('moved', 'the guest uses the target itself now: the export takes no writes', { object });
}
