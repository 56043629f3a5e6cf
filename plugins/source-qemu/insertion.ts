// SPDX-License-Identifier: MIT
// The steps that put a filter between a disk's user and its image, and that take it out again.

import type { BlockdevOptions, BlockNodeInfo, Step, WindowStep } from '../../src/plugin-api.js';
import type { FoundDisk } from './find-disks.js';

/**
 * One step for each device; one for all raw nodes together, which QEMU changes at one moment. Several steps are one moment
 * only while the guest stands still.
 */
export function insertionSteps(disks: readonly FoundDisk[], filterOf: (disk: number) => string): WindowStep[] {
  const steps: WindowStep[] = [];
  const into: BlockdevOptions[] = [];
  const outOf: BlockdevOptions[] = [];
  for (const [at, { name, insertion, node }] of disks.entries()) {
    if (insertion.kind === 'device') {
      const { qomPath } = insertion;
      steps.push({ disk: name, do: driveStep(qomPath, filterOf(at)), undo: driveStep(qomPath, node.nodeName) });
    } else {
      into.push(rawOptions(insertion.top, filterOf(at)));
      outOf.push(rawOptions(insertion.top, node.nodeName));
    }
  }
  if (into.length > 0) steps.push({ do: reopenStep(into), undo: reopenStep(outOf) });
  return steps;
}

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
