// SPDX-License-Identifier: MIT
// Steps that put another node in the place of the one that a user of it has.

import type { BlockNodeInfo } from './answers.js';
import type { BlockdevOptions, Step } from './commands.js';

export function driveStep(qomPath: string, nodeName: string): Step {
  return { execute: 'qom-set', arguments: { path: qomPath, property: 'drive', value: nodeName } };
}

export function reopenStep(options: readonly BlockdevOptions[]): Step {
  return { execute: 'blockdev-reopen', arguments: { options } };
}

/**
 * What a raw node is to be reopened with: QEMU sets back what is not named. Whether it passes on discards cannot be
 * asked for; the node below has a say of its own in that.
 */
export function rawOptions(top: BlockNodeInfo, file: string): BlockdevOptions {
  return {
    driver: 'raw',
    'node-name': top.nodeName,
    file,
    discard: 'unmap',
    'detect-zeroes': top.detectZeroes,
    'read-only': top.readOnly,
    cache: { direct: top.cacheDirect, 'no-flush': top.cacheNoFlush },
  };
}
