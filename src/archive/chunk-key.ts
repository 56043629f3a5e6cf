// SPDX-License-Identifier: MIT
// Ids of chunks as keys.

/** A chunk id as a key for maps and sets. */
export function chunkKey(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString('latin1', 0, 32);
}
