// SPDX-License-Identifier: MIT
// What chunks a container holds, past its own tables: for one whose header, tables or footer are damaged.

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { CONTAINER_HEADER_BYTES } from '../../../formats/vmar/container-header.js';
import { decodeExtentHead, decodeExtentHeader, EXTENT_HEADER_BYTES } from '../../../formats/vmar/extent.js';
import type { HashName } from '../../../formats/vmar/hash.js';
import { VmarError } from '../../base/errors.js';

/** The ids in the extents from the front up to the first whose head is not whole; a manifest's is its digest. */
export function scanIds(path: string, containerId: Uint8Array, hash: HashName): Uint8Array[] {
  const ids: Uint8Array[] = [];
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return ids;
  }
  try {
    const fileBytes = fstatSync(fd).size;
    for (let offset = CONTAINER_HEADER_BYTES; offset + EXTENT_HEADER_BYTES <= fileBytes; ) {
      const context = { object: path, containerId, offsetBytes: offset };
      const { headBytes, totalBytes } = decodeExtentHeader(readAt(fd, offset, EXTENT_HEADER_BYTES), context);
      const extent = decodeExtentHead(readAt(fd, offset, headBytes), hash, context);
      for (const chunk of extent.chunks) ids.push(chunk.id);
      offset += totalBytes;
    }
  } catch (error) {
    // The end of what can be read: an extent that is cut, the trailer, or an error of the disk.
    if (!(error instanceof VmarError) && !(error instanceof Error && 'syscall' in error)) throw error;
  } finally {
    closeSync(fd);
  }
  return ids;
}

function readAt(fd: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(fd, bytes, 0, length, offset));
}
