// SPDX-License-Identifier: MIT
// A drained section that lasts until it is told to end.

import type { BlockNode } from '../block/block-node.js';

export interface HeldDrain {
  /** Lets requests go on; resolves when they do. Calling it again does nothing. */
  release(): Promise<void>;
}

/** Resolves when the node is drained; it stays so until `release`. */
export async function holdDrained(node: BlockNode): Promise<HeldDrain> {
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let section: Promise<void> = released;
  await new Promise<void>((resolve, reject) => {
    section = node.drained(() => {
      resolve();
      return released;
    });
    section.catch(reject);
  });
  return {
    release: () => {
      release();
      return section;
    },
  };
}
