// SPDX-License-Identifier: MIT
// The steps that move disks, and those that move them back.

import type { BlockNodeInfo } from '../../qmp/answers.js';
import type { BlockdevOptions, Step } from '../../qmp/commands.js';
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

function driveStep(qomPath: string, nodeName: string): Step {
  return { execute: 'qom-set', arguments: { path: qomPath, property: 'drive', value: nodeName } };
}

function reopenStep(options: readonly BlockdevOptions[]): Step {
  return { execute: 'blockdev-reopen', arguments: { options } };
}

/** QEMU sets back what is not named. Whether it passes on discards cannot be asked for. */
function rawOptions(top: BlockNodeInfo, file: string): BlockdevOptions {
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
