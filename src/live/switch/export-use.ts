// SPDX-License-Identifier: MIT
// Where in a guest one of our exports is used, and what has to be changed there so that the guest uses the target itself.
//
// A place is one of two. A raw node that the user named, directly over the NBD node: its file is exchanged, and whoever
// uses it (devices, exports, filters) need not know. Else a device, whose drive is the NBD node itself or the nameless raw
// node that -drive makes over it: the device gets another drive. Anything else is refused: what cannot be told from a
// query (throttling, another format) would be lost on the way.

import { BusyError, FailedError } from '../../base/errors.js';
import { type BlockNodeInfo, qomPathOf } from '../../qmp/answers.js';
import { type GuestView, isOurs, nodeNamed, usersOf } from './guest-view.js';
import { isSamePath, parseNbdFileName } from './nbd-place.js';

export type UsePlace =
  | { readonly kind: 'device'; readonly qomPath: string; readonly top: BlockNodeInfo }
  | { readonly kind: 'raw-node'; readonly top: BlockNodeInfo };

export interface ExportUse {
  readonly nbd: BlockNodeInfo;
  readonly place: UsePlace;
}

export interface ExportWish {
  readonly disk: string;
  readonly socketPath: string;
  /** Any of these; "" is the default export. */
  readonly exportNames: readonly string[];
}

/** QEMU makes names that begin so, and takes them in no command that changes options. */
const NAMELESS = '#';
const BACKEND = 'block-backend:';

/**
 * @throws FailedError 'export-not-used', 'export-use-unfit' (the message names the nodes); BusyError 'guest-busy' while a
 * backup is under way
 */
export async function findExportUse(view: GuestView, wish: ExportWish): Promise<ExportUse> {
  const nodes = await nodesOf(view, wish);
  const used = nodes.filter(({ nodeName }) => usersOf(view, nodeName).length > 0);
  const [nbd] = used;
  if (nbd === undefined) throw notUsed(view, wish, nodes);
  if (used.length > 1) {
    throw unfit(wish, view, `several nodes use it: ${used.map(({ nodeName }) => nodeName).join(', ')}`);
  }
  return { nbd, place: placeOf(view, wish, nbd) };
}

/** Made by QEMU along with another: no monitor command owns it. */
export function isNameless({ nodeName }: BlockNodeInfo): boolean {
  return nodeName.startsWith(NAMELESS);
}

/** Nodes that are connected to the export, used or not. */
export async function nodesOf(view: GuestView, { socketPath, exportNames }: ExportWish): Promise<BlockNodeInfo[]> {
  const found: BlockNodeInfo[] = [];
  for (const node of view.nodes) {
    const place = node.driver === 'nbd' ? parseNbdFileName(node.fileName) : undefined;
    if (place === undefined || !exportNames.includes(place.exportName)) continue;
    if (await isSamePath(place.socketPath, socketPath)) found.push(node);
  }
  return found;
}

function placeOf(view: GuestView, wish: ExportWish, nbd: BlockNodeInfo): UsePlace {
  const user = onlyUser(view, wish, nbd.nodeName);
  if (user.startsWith(BACKEND)) return deviceOf(view, wish, nbd);
  const top = nodeNamed(view, user);
  if (top === undefined) throw unfit(wish, view, `${user} uses it`);
  if (top.driver !== 'raw') throw unfit(wish, view, `node ${user} of driver ${top.driver} is over it`);
  if (top.sizeBytes !== nbd.sizeBytes) throw unfit(wish, view, `node ${user} shows only a part of it`);
  if (!isNameless(top)) return { kind: 'raw-node', top };
  const above = onlyUser(view, wish, user);
  if (!above.startsWith(BACKEND)) throw unfit(wish, view, `${above} uses it by a node without a name`);
  return deviceOf(view, wish, top);
}

function deviceOf(view: GuestView, wish: ExportWish, top: BlockNodeInfo): UsePlace {
  const drive = view.drives.find(({ inserted }) => inserted?.nodeName === top.nodeName);
  if (drive?.qdev === undefined) {
    throw unfit(wish, view, `node ${top.nodeName} is no device's: an export is moved only where a raw node is over it`);
  }
  return { kind: 'device', qomPath: qomPathOf(drive.qdev), top };
}

function onlyUser(view: GuestView, wish: ExportWish, node: string): string {
  const users = usersOf(view, node);
  if (users.some(isOurs)) {
    throw new BusyError('guest-busy', 'a backup of this guest is under way', {
      object: view.name,
      advice: 'Its disks are moved when it has ended.',
    });
  }
  const [user] = users;
  if (user === undefined) throw unfit(wish, view, `nobody uses node ${node}`);
  if (users.length > 1) throw unfit(wish, view, `several use node ${node}: ${users.join(', ')}`);
  return user;
}

function notUsed(view: GuestView, wish: ExportWish, nodes: readonly BlockNodeInfo[]): FailedError {
  const others = view.nodes
    .filter(({ driver }) => driver === 'nbd')
    .map((node) => `${node.nodeName} (${node.fileName})`);
  const idle = nodes.map(({ nodeName }) => nodeName).join(', ');
  const why = nodes.length === 0 ? 'the guest is not connected to it' : `no device of the guest uses its node ${idle}`;
  return new FailedError('export-not-used', `${wish.disk} cannot be moved: ${why}`, {
    object: view.name,
    expected: `a node of driver nbd for ${uriOf(wish)}`,
    found: others.length === 0 ? 'no node of driver nbd' : others.join(', '),
    advice: 'Start the guest on the export, or give the monitor of the guest that runs on it.',
  });
}

function unfit(wish: ExportWish, { name }: GuestView, why: string): FailedError {
  return new FailedError('export-use-unfit', `${wish.disk} cannot be moved: ${why}`, {
    object: name,
    expected: 'a device on the NBD node, or a raw node over it',
    advice: 'Start the guest anew as docs/LIVE-RESTORE.md shows, from the target: all is restored there.',
  });
}

function uriOf({ exportNames, socketPath }: ExportWish): string {
  return `nbd+unix:///${exportNames[0] ?? ''}?socket=${socketPath}`;
}
