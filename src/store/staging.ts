// SPDX-License-Identifier: MIT
// Blocks of memory that O_DIRECT writes can be made from. Kept for reuse: making one costs more than writing it.

import { alignedOffset } from '../base/syscalls.js';

export const STAGING_BYTES = 1 << 20;
const ALIGNMENT = 4096;
/** Blocks kept while nobody needs them. */
const MOST_KEPT = 16;

/** `STAGING_BYTES` at an address that is a multiple of 4096. */
export type StagingBlock = Uint8Array;

const kept: StagingBlock[] = [];

/** A block whose content is undefined. */
export function takeBlock(): StagingBlock {
  const block = kept.pop();
  if (block !== undefined) return block;
  const memory = new Uint8Array(new ArrayBuffer(STAGING_BYTES + ALIGNMENT));
  const skip = alignedOffset(memory, ALIGNMENT);
  return memory.subarray(skip, skip + STAGING_BYTES);
}

export function giveBlock(block: StagingBlock): void {
  if (kept.length < MOST_KEPT) kept.push(block);
}
