// SPDX-License-Identifier: MIT
// Devices that can be measured again: whoever reads one for hours wants to know that it is still the same length.

import type { BlockDevice } from './device.js';

export interface MeasuredDevice extends BlockDevice {
  /** The length that the file or device has now; `lengthBytes` is what it had when it was opened. */
  lengthNow(): Promise<number>;
}

export function isMeasured(device: BlockDevice): device is MeasuredDevice {
  return 'lengthNow' in device && typeof device.lengthNow === 'function';
}
