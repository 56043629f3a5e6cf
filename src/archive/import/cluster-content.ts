// SPDX-License-Identifier: MIT
// What a cluster of a .vma file holds, and how long a stream of them is.

import { BLOCK_BYTES, BLOCKS_PER_CLUSTER, CLUSTER_BYTES } from '../../../formats/vma/limits.js';
import { isAllZero } from '../../base/bytes.js';
import { divideUp } from '../../base/checked.js';
import { copyBytes } from '../../base/syscalls.js';

export const ZEROS = new Uint8Array(CLUSTER_BYTES);
const ALL_BLOCKS = 0xffff;

/** Puts the blocks to their places in a cluster, and zeros to the others. */
export function fillCluster(room: Uint8Array, mask: number, blocks: Uint8Array): void {
  if (mask === ALL_BLOCKS) {
    copyBytes(room, blocks);
    return;
  }
  let taken = 0;
  for (let block = 0; block < BLOCKS_PER_CLUSTER; ) {
    const isThere = ((mask >> block) & 1) === 1;
    const from = block;
    while (block < BLOCKS_PER_CLUSTER && (((mask >> block) & 1) === 1) === isThere) block++;
    const lengthBytes = (block - from) * BLOCK_BYTES;
    const content = isThere ? blocks.subarray(taken, taken + lengthBytes) : ZEROS.subarray(0, lengthBytes);
    copyBytes(room.subarray(from * BLOCK_BYTES), content);
    if (isThere) taken += lengthBytes;
  }
}

/** Up to the end of the last block that is there; a cluster without any is zeros, all of it. */
export function presentBytes(mask: number): number {
  return mask === 0 ? CLUSTER_BYTES : (32 - Math.clz32(mask)) * BLOCK_BYTES;
}

export interface StreamEnd {
  readonly clusters: number;
  /** By the header, which may only guess. */
  readonly claimedBytes: number;
  /** The whole last cluster; undefined if there is none. */
  readonly last: Uint8Array | undefined;
  /** What is there of it. */
  readonly lastBytes: number;
}

/**
 * How long a stream is: as the header says, if that ends in the last cluster and only zeros follow there; else it ends with
 * the last block.
 */
export function streamBytes({ clusters, claimedBytes, last, lastBytes }: StreamEnd): number {
  if (last === undefined) return 0;
  const before = (clusters - 1) * CLUSTER_BYTES;
  const isClaimed =
    divideUp(claimedBytes, CLUSTER_BYTES) === clusters && isAllZero(last.subarray(claimedBytes - before));
  return isClaimed ? claimedBytes : before + lastBytes;
}
