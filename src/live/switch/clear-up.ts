// SPDX-License-Identifier: MIT
// Takes away what a switch put into a guest, looking at what is there and not at what should be: so it serves after a
// success, after a failure in the middle of anything, and for what was killed. It may be called again.

import type { Monitor } from '../../qmp/monitor.js';
import { type ExportWish, nodesOf } from './export-use.js';
import { type GuestView, isOfSwitch, lookAtGuest, nodeNamed, RUN_NODE, usersOf } from './guest-view.js';
import { isSamePath } from './nbd-place.js';
import { isRefusal } from './target-node.js';

/** What of a disk can be left in a guest. */
export interface ClearWish {
  readonly wish: ExportWish;
  readonly targetPath: string;
}

/** Whether the guest uses the target itself. */
export async function isMoved(view: GuestView, targetPath: string): Promise<boolean> {
  for (const node of await nodesOn(view, targetPath)) if (isAttached(view, node)) return true;
  return false;
}

/** A guardian was killed while the guest stood still: it is let go on. */
export async function letRun(monitor: Monitor): Promise<void> {
  const { nodes } = await lookAtGuest(monitor);
  if (!nodes.some(({ nodeName }) => isOfSwitch(nodeName) && /-m\d+$/.test(nodeName))) return;
  const { status } = await monitor.execute('query-status', {});
  if (status === 'paused') await monitor.execute('cont', {});
}

/**
 * Removes keepers and marks, then NBD nodes and target nodes that nobody uses, then RUN_NODE, unless it is a backup's.
 * Gives the guest as it is then.
 */
export async function clearUp(monitor: Monitor, disks: readonly ClearWish[]): Promise<GuestView> {
  let view = await lookAtGuest(monitor);
  for (const { nodeName } of view.nodes.filter(({ nodeName }) => isOfSwitch(nodeName))) await remove(monitor, nodeName);
  view = await lookAtGuest(monitor);
  for (const { wish, targetPath } of disks) {
    const moved = await isMoved(view, targetPath);
    const idle = moved ? await nodesOf(view, wish) : await ourTargets(view, targetPath);
    for (const { nodeName } of idle) {
      if (usersOf(view, nodeName).length === 0) await remove(monitor, nodeName);
    }
  }
  const lock = nodeNamed(view, RUN_NODE);
  if (lock !== undefined && (await isOneOf(lock.fileName, disks))) await remove(monitor, RUN_NODE);
  return await lookAtGuest(monitor);
}

/** Nodes that a switch has made over the target; a node of the user's own over it is not touched. */
async function ourTargets(view: GuestView, targetPath: string) {
  const below = new Set(await nodesOn(view, targetPath));
  return view.nodes.filter(({ nodeName }) => {
    if (!nodeName.startsWith('restored-')) return false;
    return below.has(nodeName) || view.edges.some(({ parent, child }) => parent === nodeName && below.has(child));
  });
}

async function nodesOn(view: GuestView, targetPath: string): Promise<string[]> {
  const found: string[] = [];
  for (const { nodeName, driver, fileName } of view.nodes) {
    if (nodeName === RUN_NODE || (driver !== 'file' && driver !== 'host_device')) continue;
    if (await isSamePath(fileName, targetPath)) found.push(nodeName);
  }
  return found;
}

/** A device or an export uses it, directly or not. */
function isAttached(view: GuestView, node: string): boolean {
  return usersOf(view, node).some((user) => user.startsWith('block-backend:') || isAttached(view, user));
}

async function isOneOf(fileName: string, disks: readonly ClearWish[]): Promise<boolean> {
  for (const { targetPath } of disks) if (await isSamePath(fileName, targetPath)) return true;
  return false;
}

/** One that went with its parent is not there any more. */
async function remove(monitor: Monitor, nodeName: string): Promise<void> {
  try {
    await monitor.execute('blockdev-del', { 'node-name': nodeName });
  } catch (error) {
    if (!isRefusal(error)) throw error;
  }
}
