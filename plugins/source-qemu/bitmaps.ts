// SPDX-License-Identifier: MIT
// The life of dirty bitmaps.
//
// Guarantee: between two backups of a disk that both came off, every change is recorded by some bitmap of ours that is
// still there. A backup adds the new bitmap before its moment, and stops the old one after it; so each has too much, never
// too little. Only when the backup is durable does the old one go. When it fails, or its run was killed, the old one goes
// on with what the new one recorded; enabling and merging are one transaction.

import { FailedError } from '../../src/base/errors.js';
import type {
  BitmapInfo,
  BitmapWish,
  BlockNodeInfo,
  Monitor,
  SnapshotOutcome,
  TransactionAction,
} from '../../src/plugin-api.js';

export interface DiskBitmaps {
  readonly node: string;
  /** The old one, on which this backup can rest, or why there is none; undefined where none was asked for. */
  readonly previous: string | undefined;
  readonly fullReason: string | undefined;
  /** Others of ours, of no use any more. */
  readonly stale: readonly string[];
  /** As a disk's image allows it. */
  readonly persistent: boolean;
}

export interface BitmapPlan {
  readonly disk: DiskBitmaps;
  /** What brings the old bitmap up to date, if a run was killed. */
  readonly repair: readonly TransactionAction[];
}

/** Looks at what bitmaps a disk has; changes nothing. */
export function planBitmaps(
  node: BlockNodeInfo,
  prefix: string,
  wish: BitmapWish | undefined,
  granularityBytes: number,
): BitmapPlan {
  const own = node.bitmaps.filter(({ name }) => name.startsWith(prefix));
  const persistent = node.storesBitmaps && !node.readOnly;
  const plan = (previous: string | undefined, fullReason: string | undefined, repair: TransactionAction[] = []) => {
    // One that is in use cannot be removed now; a later backup does.
    const stale = own
      .filter(({ name, busy }) => !busy && name !== previous && !isRemovedBy(repair, name))
      .map(({ name }) => name);
    return { disk: { node: node.nodeName, previous, fullReason, stale, persistent }, repair };
  };
  if (wish === undefined) return plan(undefined, undefined);
  if ('fullReason' in wish) return plan(undefined, wish.fullReason);
  const found = own.find(({ name }) => name === wish.name);
  const others = own.filter((bitmap) => bitmap !== found);
  const fault = bitmapFault(found, persistent, granularityBytes, others.length > 0);
  if (found === undefined || fault !== undefined) return plan(undefined, fault);
  if (found.recording) return plan(found.name, undefined);
  // A run was killed between stopping the old one and its end: the new one goes on recording.
  if (
    others.length === 0 ||
    others.some((other) => bitmapFault(other, persistent, granularityBytes) !== undefined || !other.recording)
  ) {
    return plan(undefined, 'the dirty bitmap had been switched off');
  }
  return plan(
    found.name,
    undefined,
    goOn(
      node.nodeName,
      found.name,
      others.map(({ name }) => name),
    ),
  );
}

function bitmapFault(
  bitmap: BitmapInfo | undefined,
  persistent: boolean,
  granularityBytes: number,
  hasOthers = false,
): string | undefined {
  if (bitmap === undefined) {
    const why = hasOthers
      ? 'the one on the disk follows a backup that is not the last one'
      : persistent
        ? 'QEMU was killed before it stored it, someone removed it, or the image is another one'
        : 'the guest was started anew, and this image keeps none';
    return `the dirty bitmap of the last backup is gone (${why})`;
  }
  if (bitmap.inconsistent) return 'the dirty bitmap is inconsistent: QEMU did not end in good order';
  if (bitmap.granularityBytes !== granularityBytes) {
    return 'the dirty bitmap of this name was made by someone else';
  }
  if (bitmap.busy) return 'the dirty bitmap is in use by another program';
  return undefined;
}

/** The old one goes on, with all that the newer ones recorded. */
function goOn(node: string, name: string, newer: readonly string[]): TransactionAction[] {
  return [
    { type: 'block-dirty-bitmap-enable', data: { node, name } },
    { type: 'block-dirty-bitmap-merge', data: { node, target: name, bitmaps: newer } },
    ...newer.map((one) => removal(node, one)),
  ];
}

function removal(node: string, name: string): TransactionAction {
  return { type: 'block-dirty-bitmap-remove', data: { node, name } };
}

function isRemovedBy(actions: readonly TransactionAction[], name: string): boolean {
  return actions.some(({ type, data }) => type === 'block-dirty-bitmap-remove' && 'name' in data && data.name === name);
}

/** Before the moment: old ones are set right, the new ones begin; for all disks at once. */
export async function beginBitmaps(
  monitor: Monitor,
  plans: readonly BitmapPlan[],
  name: string,
  granularity: number,
): Promise<void> {
  // An inconsistent one can only be removed, and not in a transaction.
  for (const { disk } of plans) {
    for (const stale of disk.stale)
      await monitor.execute('block-dirty-bitmap-remove', { node: disk.node, name: stale });
  }
  const repairs = plans.flatMap(({ repair }) => repair);
  if (repairs.length > 0) await monitor.execute('transaction', { actions: repairs });
  const add = async (isKept: (disk: DiskBitmaps) => boolean) => {
    const actions = plans.map(({ disk }) => {
      const data = { node: disk.node, name, granularity, persistent: isKept(disk) };
      return { type: 'block-dirty-bitmap-add' as const, data };
    });
    await monitor.execute('transaction', { actions });
  };
  try {
    await add(({ persistent }) => persistent);
  } catch (error) {
    const isRefused = error instanceof FailedError && error.code === 'qmp-command-failed';
    if (!isRefused || plans.every(({ disk }) => !disk.persistent)) throw error;
    // An image has no room for one after all. They last as long as QEMU then.
    await add(() => false);
  }
}

/** After the moment. */
export async function stopOldBitmaps(monitor: Monitor, disks: readonly DiskBitmaps[]): Promise<void> {
  const actions = disks.flatMap(({ node, previous }) =>
    previous === undefined ? [] : [{ type: 'block-dirty-bitmap-disable' as const, data: { node, name: previous } }],
  );
  if (actions.length > 0) await monitor.execute('transaction', { actions });
}

/** The end of a backup. The exports are gone: nothing holds the bitmaps. */
export async function endBitmaps(
  monitor: Monitor,
  disks: readonly DiskBitmaps[],
  name: string,
  outcome: SnapshotOutcome,
): Promise<void> {
  const nodes = await monitor.execute('query-named-block-nodes', { flat: true });
  for (const { node, previous } of disks) {
    const there = nodes.find(({ nodeName }) => nodeName === node)?.bitmaps ?? [];
    const has = (wanted: string | undefined): wanted is string => there.some((bitmap) => bitmap.name === wanted);
    const actions: TransactionAction[] = [];
    if (outcome === 'failed' && has(previous) && has(name)) actions.push(...goOn(node, previous, [name]));
    else {
      if (outcome !== 'failed' && has(previous)) actions.push(removal(node, previous));
      if (outcome !== 'done' && has(name)) actions.push(removal(node, name));
    }
    if (actions.length > 0) await monitor.execute('transaction', { actions });
  }
}
