// SPDX-License-Identifier: MIT
// The steps that move disks, and those that move them back.

import type { BlockNodeInfo } from '../../qmp/answers.js';
import type { BlockdevOptions } from '../../qmp/commands.js';
import { driveStep, rawOptions, reopenStep } from '../../qmp/graph-steps.js';
import type { WindowStep } from '../../qmp/window-plan.js';
import type { ExportUse } from './export-use.js';

export interface Move {
  readonly use: ExportUse;
  /** Of the node that the guest gets. */
  readonly targetNode: string;
}

/** One step for all raw nodes together, which QEMU changes all or none; then one for each device. */
export function moveSteps(moves: readonly Move[]): WindowStep[] {
  const to: BlockdevOptions[] = [];
  const back: BlockdevOptions[] = [];
  const steps: WindowStep[] = [];
  for (const { use, targetNode } of moves) {
    const { place, nbd } = use;
    if (place.kind === 'raw-node') {
      to.push(rawOptions(place.top, targetNode));
      back.push(rawOptions(place.top, nbd.nodeName));
    } else {
      const { qomPath, top } = place;
      steps.push({ do: driveStep(qomPath, targetNode), undo: driveStep(qomPath, top.nodeName) });
    }
  }
  if (to.length > 0) steps.unshift({ do: reopenStep(to), undo: reopenStep(back) });
  return steps;
}

/** The node that no longer has a user once the disk is moved. */
export function replacedNode({ place, nbd }: ExportUse): BlockNodeInfo {
  return place.kind === 'raw-node' ? nbd : place.top;
}
