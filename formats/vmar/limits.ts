// SPDX-License-Identifier: MIT
// SPEC.md §5: what a reader refuses before it allocates, and what writers keep to.

import { isPowerOfTwo } from '../../src/base/checked.js';

export const MIN_CLUSTER_BYTES = 64 << 10;
export const MAX_CLUSTER_BYTES = 4 << 20;
export const DEFAULT_CLUSTER_BYTES = 64 << 10;
export const MIN_MAP_FANOUT = 16;
export const MAX_MAP_FANOUT = 4096;
export const DEFAULT_MAP_FANOUT = 128;
export const MAX_MAP_LEVELS = 7;
/** Chunk, and raw bytes of a frame, of data or map pages. */
export const MAX_CHUNK_BYTES = 4 << 20;
export const MAX_FRAME_BYTES = 4 << 20;
export const MAX_PAYLOAD_BYTES = 16 << 20;
/** What an envelope is longer than its payload: header and digest. */
export const ENVELOPE_OVERHEAD_BYTES = 72;
/** Chunk, and raw bytes of the frame, of a manifest: a whole envelope. */
export const MAX_MANIFEST_BYTES = MAX_PAYLOAD_BYTES + ENVELOPE_OVERHEAD_BYTES;
export const MAX_EXTENT_CHUNKS = 65536;
export const MAX_EXTENT_FRAMES = 4096;
export const MAX_EXTENT_STORED_BYTES = 64 << 20;
export const MAX_PACK_BYTES = 2 ** 32;
export const MAX_DISKS = 254;
export const MAX_CONFIGS = 1024;
export const MAX_LABELS = 1024;
/** Of packs, of backups, of what is touched: in the verify history and the damage list. */
export const MAX_STATE_ENTRIES = 1 << 20;
/** In the report of a job. */
export const MAX_JOB_GUESTS = 16384;
export const MAX_JOB_STEPS = 64;
export const MAX_JOB_WARNINGS = 1024;
/** Of disks, and of anything else that is counted in bytes. */
export const MAX_SIZE_BYTES = Number.MAX_SAFE_INTEGER;

export function isClusterSize(bytes: number): boolean {
  return isPowerOfTwo(bytes, MIN_CLUSTER_BYTES, MAX_CLUSTER_BYTES);
}

export function isMapFanout(fanout: number): boolean {
  return isPowerOfTwo(fanout, MIN_MAP_FANOUT, MAX_MAP_FANOUT);
}
