// SPDX-License-Identifier: MIT
// What a guest's QEMU has at one moment, as far as moving its disks goes.

import type { BlockGraph, BlockNodeInfo, DriveInfo } from '../../qmp/answers.js';
import type { Monitor } from '../../qmp/monitor.js';

export interface GuestView {
  /** Of the monitor, for messages. */
  readonly name: string;
  readonly nodes: readonly BlockNodeInfo[];
  readonly edges: BlockGraph['edges'];
  readonly drives: readonly DriveInfo[];
}

export async function lookAtGuest(monitor: Monitor): Promise<GuestView> {
  const nodes = await monitor.execute('query-named-block-nodes', { flat: true });
  const { edges } = await monitor.execute('x-debug-query-block-graph', {});
  const drives = await monitor.execute('query-block', {});
  return { name: monitor.name, nodes, edges, drives };
}

/** Everything of ours in a guest is named so; backups' share the beginning, and take away what is left of both. */
const OURS = 'vmar-';
const SWITCH = `${OURS}live-`;

/** The node that keeps backups and other switches out, as the one of a backup does. */
export const RUN_NODE = `${OURS}run`;

/** By the same letters a backup knows what may be taken away ("f"), and that a guest may have been left paused ("m"). */
export type SwitchRole = 'keeper' | 'mark';
const LETTER: Readonly<Record<SwitchRole, string>> = { keeper: 'f', mark: 'm' };

/** QEMU allows 31 characters. */
export function switchName(run: string, role: SwitchRole, disk = 0): string {
  return `${SWITCH}${run}-${LETTER[role]}${disk}`;
}

export function isOfSwitch(name: string): boolean {
  return name.startsWith(SWITCH);
}

/** Of a switch or of a backup. */
export function isOurs(name: string): boolean {
  return name.startsWith(OURS);
}

/** Who uses a node, ours left out. Devices and exports are "block-backend:…", jobs "block-job:…". */
export function usersOf({ edges }: GuestView, node: string): string[] {
  return edges.filter(({ parent, child }) => child === node && !isOfSwitch(parent)).map(({ parent }) => parent);
}

export function nodeNamed({ nodes }: GuestView, name: string): BlockNodeInfo | undefined {
  return nodes.find(({ nodeName }) => nodeName === name);
}
