// SPDX-License-Identifier: MIT
// A target of a restore that is a block device of ours, not a file: an export of an NBD server.

import type { BlockDevice } from '../block/device.js';
import { checkTarget } from './target-checks.js';

/** Opens a target that is no path; undefined for a path. */
export type OpenDevice = (place: string) => Promise<BlockDevice> | undefined;

export class DeviceTarget {
  readonly excessBytes: number;
  #isClosed = false;

  private constructor(
    readonly path: string,
    readonly device: BlockDevice,
    sizeBytes: number,
    /** Whether zeros must be written where the backup has them. */
    readonly writeZeros: boolean,
  ) {
    this.excessBytes = device.lengthBytes - sizeBytes;
  }

  /** Takes the device. Rejects, having written nothing, where it is too small or not empty, as `checkTarget` says. */
  static async open(
    device: BlockDevice,
    path: string,
    sizeBytes: number,
    options: { readonly overwrite: boolean; readonly targetIsZero: boolean },
  ): Promise<DeviceTarget> {
    try {
      await checkTarget(device, path, sizeBytes, options);
      return new DeviceTarget(path, device, sizeBytes, !options.targetIsZero);
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  async flush(): Promise<void> {
    await this.device.flush();
  }

  async finish(): Promise<void> {
    await this.abandon();
  }

  async abandon(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.device.close();
  }
}
