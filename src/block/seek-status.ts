// SPDX-License-Identifier: MIT
// What a file holds, by SEEK_DATA and SEEK_HOLE.

import { seekData, seekHole } from '../base/syscalls.js';
import type { BlockExtent } from './device.js';

/** Two system calls an extent: this many keep the main thread for about two milliseconds. */
const MOST_EXTENTS = 1024;

/**
 * The extents from `offsetBytes` on, as `BlockDevice.blockStatus` promises them, for a range that is not empty.
 * Throws EINVAL or ENOTSUP, as a SystemError, where the file system does not tell.
 */
export function seekStatus(fd: number, offsetBytes: number, lengthBytes: number): BlockExtent[] {
  const end = offsetBytes + lengthBytes;
  const extents: BlockExtent[] = [];
  let at = offsetBytes;
  while (at < end && extents.length < MOST_EXTENTS) {
    const data = Math.min(seekData(fd, at) ?? end, end);
    if (data > at) extents.push({ offsetBytes: at, lengthBytes: data - at, state: 'zero' });
    if (data === end) break;
    const hole = Math.min(holeAfter(fd, data), end);
    extents.push({ offsetBytes: data, lengthBytes: hole - data, state: 'data' });
    at = hole;
  }
  return extents;
}

/** Always past `data`: a hole punched there since SEEK_DATA found it must not stop the walk. */
function holeAfter(fd: number, data: number): number {
  try {
    return Math.max(seekHole(fd, data), data + 1);
  } catch (error) {
    // ENXIO: the file was cut short in between. Reading it will say so.
    if (error instanceof Error && 'code' in error && error.code === 'ENXIO') return data + 1;
    throw error;
  }
}
