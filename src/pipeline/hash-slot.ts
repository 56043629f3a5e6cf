// SPDX-License-Identifier: MIT
// Hashes the clusters of a slot. Most of a backup's time on unchanged data is spent here.

import { type HashName, ID_BYTES } from '../../formats/vmar/hash.js';
import type { SlotMemory } from './slot-memory.js';
import { chunkHasher, type Implementation } from './thread-tools.js';

let zeros = Buffer.alloc(0);

/** True if all bytes are zero: one memcmp with a constant block, several times faster than hashing. */
function isZero(bytes: Buffer): boolean {
  if (zeros.byteLength < bytes.byteLength) zeros = Buffer.alloc(bytes.byteLength);
  return zeros.byteLength === bytes.byteLength
    ? zeros.equals(bytes)
    : zeros.compare(bytes, 0, bytes.byteLength, 0, bytes.byteLength) === 0;
}

/** See Executor.hashSlot. */
export function hashSlot(slot: SlotMemory, lengthBytes: number, hash: HashName, implementation: Implementation): void {
  const size = slot.clusterSizeBytes;
  const hasher = chunkHasher(hash, 0, implementation);
  for (let at = 0, index = 0; at < lengthBytes; at += size, index++) {
    const cluster = at + size <= lengthBytes ? slot.cluster(index) : slot.bytes.subarray(at, lengthBytes);
    if (isZero(cluster)) {
      slot.flags[index] = 1;
      slot.ids.fill(0, index * ID_BYTES, (index + 1) * ID_BYTES);
    } else {
      slot.flags[index] = 0;
      hasher.into(cluster, slot.idOf(index));
    }
  }
}
