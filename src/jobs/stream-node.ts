// SPDX-License-Identifier: MIT
// Streams a device into independence: fills what an alloc-track filter still lacks, lets go of the backing, and takes the
// filter out of the graph, while the device is in use.

import type { BlockNode } from '../block/block-node.js';
import { claim } from '../block/claims.js';
import type { BlockDevice } from '../block/device.js';
import { AllocTrack, type AllocTrackOptions } from '../block/filters/alloc-track.js';
import { StreamJob, type StreamJobOptions } from './stream-job.js';

export interface NodeStreamOptions extends Omit<StreamJobOptions, 'target'> {
  /** The filter is in the chain under it. */
  readonly node: BlockNode;
  readonly filter: AllocTrack;
}

/**
 * Yields to whoever uses the node, unless told otherwise. When all is held and flushed, the backing is let go (it is the
 * caller's to close then) and the filter drops out. If the job ends before that, both stay, and another job can go on.
 */
export class NodeStreamJob extends StreamJob {
  readonly #node: BlockNode;
  readonly #filter: AllocTrack;

  constructor(options: NodeStreamOptions) {
    super({ yieldTo: () => options.node.whenIdle(), ...options, target: options.filter });
    this.#node = options.node;
    this.#filter = options.filter;
  }

  /** Guests may write meanwhile, and others read; nobody else may fill or replace the content. */
  protected override async run(): Promise<void> {
    const held = claim(this.#node, this.id, ['write-unchanged'], ['consistent-read', 'write']);
    try {
      await super.run();
    } finally {
      held.release();
    }
  }

  protected override async prepare(): Promise<void> {
    await this.#filter.detachBacking();
    await this.#node.removeFilter(this.#filter);
  }
}

/**
 * Gives the device of a node a backing: what is not `held` shows through from there, until a NodeStreamJob has filled it.
 */
export function insertBacking(
  node: BlockNode,
  backing: BlockDevice,
  options: Omit<AllocTrackOptions, 'backing'>,
): Promise<AllocTrack> {
  return node.insertFilter((below) => new AllocTrack(below, { ...options, backing }));
}
