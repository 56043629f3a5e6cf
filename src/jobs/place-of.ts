// SPDX-License-Identifier: MIT
// Where in a chain a filter sits.

import { BugError } from '../base/errors.js';
import { BlockNode, type FilterDevice, isFilter } from '../block/block-node.js';

/** The node of the chain under `top`, or `top` itself, whose device is the filter. @throws BugError if there is none */
export function placeOf(top: BlockNode, filter: FilterDevice): BlockNode {
  for (let node = top; ; ) {
    const { device } = node;
    if (device === filter) return node;
    if (device instanceof BlockNode) node = device;
    else if (isFilter(device)) node = device.below;
    else throw new BugError(`${filter.name}: the filter is gone from the chain`);
  }
}
