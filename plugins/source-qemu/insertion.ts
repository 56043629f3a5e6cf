// SPDX-License-Identifier: MIT
// The steps that put a filter between a disk's user and its image, and that take it out again.

import { type BlockdevOptions, driveStep, rawOptions, reopenStep, type WindowStep } from '../../src/plugin-api.js';
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
