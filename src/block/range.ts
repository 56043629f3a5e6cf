// SPDX-License-Identifier: MIT
// The checks that every device makes before it does anything.

import { isSize } from '../base/checked.js';
import { UsageError } from '../base/errors.js';
import type { BlockDevice } from './device.js';

/** Throws UsageError unless the range lies wholly inside the device. */
export function checkRange(
  device: Pick<BlockDevice, 'name' | 'lengthBytes'>,
  offsetBytes: number,
  lengthBytes: number,
): void {
  if (isSize(offsetBytes) && isSize(lengthBytes) && offsetBytes <= device.lengthBytes - lengthBytes) return;
  throw new UsageError('out-of-range', `a range of ${lengthBytes} bytes does not lie inside the device`, {
    object: device.name,
    offsetBytes,
    expected: `a range inside ${device.lengthBytes} bytes`,
    found: `${offsetBytes} + ${lengthBytes}`,
  });
}

/** Throws UsageError for a read-only device. */
export function checkWritable(device: Pick<BlockDevice, 'name' | 'readOnly'>): void {
  if (device.readOnly) {
    throw new UsageError('read-only', 'the device was opened for reading only', { object: device.name });
  }
}
