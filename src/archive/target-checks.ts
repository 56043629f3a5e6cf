// SPDX-License-Identifier: MIT
// Whether a file or device that is there already may be restored to.

import { isAllZero } from '../base/bytes.js';
import { FailedError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';

/** Of files it is known that they are none; what is not known is taken for a device. */
type Target = BlockDevice & { readonly isBlockDevice?: boolean };

const PROBE_BYTES = 1 << 20;

/** @throws FailedError 'target-too-small', or 'target-not-empty' unless it may be written over. */
export async function checkTarget(
  device: Target,
  path: string,
  sizeBytes: number,
  options: { readonly overwrite: boolean },
): Promise<void> {
  checkTargetSize(device, path, sizeBytes);
  if (options.overwrite || !(await hasContent(device))) return;
  throw new FailedError('target-not-empty', 'the target is not empty', {
    object: path,
    advice: 'Add --overwrite to write over it.',
  });
}

/** @throws FailedError 'target-too-small' */
export function checkTargetSize(device: Target, path: string, sizeBytes: number): void {
  if (device.lengthBytes >= sizeBytes) return;
  throw new FailedError('target-too-small', 'the target is smaller than the disk', {
    object: path,
    expected: `at least ${sizeBytes} bytes`,
    found: `${device.lengthBytes} bytes`,
    advice: 'Make it larger, or name another target.',
  });
}

/**
 * Whether a file holds anything but holes, or a device anything but zeros where a partition table or file system would
 * stand, at its beginning or end.
 */
export async function hasContent(device: Target): Promise<boolean> {
  if (device.isBlockDevice === false) {
    for (let at = 0; at < device.lengthBytes; ) {
      const [first] = await device.blockStatus(at, device.lengthBytes - at);
      if (first === undefined || first.state === 'data') return first !== undefined;
      at = first.offsetBytes + first.lengthBytes;
    }
    return false;
  }
  const bytes = Buffer.alloc(Math.min(PROBE_BYTES, device.lengthBytes));
  for (const at of [0, device.lengthBytes - bytes.length]) {
    await device.read(at, bytes);
    if (!isAllZero(bytes)) return true;
  }
  return false;
}
