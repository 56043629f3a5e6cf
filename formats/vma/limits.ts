// SPDX-License-Identifier: MIT
// SPEC.md §5: the sizes of the layout, what a reader refuses before it allocates, and what the writer keeps to.

export const BLOCK_BYTES = 4096;
export const CLUSTER_BYTES = 65536;
export const BLOCKS_PER_CLUSTER = 16;
export const SECTOR_BYTES = 512;

/** The fixed part of the header; the blob buffer follows. */
export const FIXED_HEADER_BYTES = 12288;
/** The writer's header ends at a multiple of this. */
export const HEADER_ALIGNMENT_BYTES = 512;
/** What writers keep to; the real one, too. */
export const MAX_WRITTEN_HEADER_BYTES = 524288;
/** More than all that the pointers of a header can reach: 256 configs with names, 254 device names. */
export const MAX_HEADER_BYTES = 64 << 20;
export const MAX_BLOB_BYTES = 65535;
export const MAX_CONFIGS = 256;
/** Devices have the ids 1 … 254: id 0 means none, and 255 breaks the real tool. */
export const MAX_DEVICE_ID = 254;
/** Cluster numbers have 32 bits. */
export const MAX_DEVICE_BYTES = 2 ** 32 * CLUSTER_BYTES;
export const MAX_NAME_BYTES = 255;

export const EXTENT_HEADER_BYTES = 512;
export const CLUSTERS_PER_EXTENT = 59;
/** The real writer leaves the last entry free. */
export const WRITTEN_CLUSTERS_PER_EXTENT = 58;

/** The device with this name is a stream: the memory of a running guest. */
export const VMSTATE_NAME = 'vmstate';

/** For the bits of the clusters seen, over all devices: enough for 64 TiB in random order. */
export const MAX_SEEN_BYTES = 128 << 20;
