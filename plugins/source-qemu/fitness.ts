// SPDX-License-Identifier: MIT
// Disks that a filter must not be put under just now, or ever.

import { BusyError, FailedError } from '../../src/base/errors.js';
import type { Monitor } from '../../src/plugin-api.js';
import type { FoundDisk } from './find-disks.js';

/** Their commands go to the host's device, past QEMU's block layer: no filter sees what the guest writes. */
const PASSED_THROUGH: ReadonlySet<string> = new Set(['scsi-generic', 'scsi-block']);

/** @throws FailedError 'disk-not-possible', or BusyError 'disk-busy', which name the disks */
export async function refuseUnfit(monitor: Monitor, disks: readonly FoundDisk[]): Promise<void> {
  refuseShared(monitor, disks);
  await refuseBusy(monitor, disks);
  await Promise.all(
    disks.map(async ({ name, insertion }) => {
      if (insertion.kind !== 'device') return;
      const type = await monitor.execute('qom-get', { path: insertion.qomPath, property: 'type' });
      if (PASSED_THROUGH.has(type)) throw notPossible(monitor.name, name, `it is passed through (${type})`);
    }),
  );
}

/** Each of two filters would miss what is written through the other. */
function refuseShared(monitor: Monitor, disks: readonly FoundDisk[]): void {
  for (const [at, { name, node }] of disks.entries()) {
    const first = disks.slice(0, at).find((other) => other.node.nodeName === node.nodeName);
    if (first === undefined) continue;
    throw notPossible(
      monitor.name,
      name,
      `${first.name} and it are two devices with one image (node ${node.nodeName})`,
    );
  }
}

/**
 * A job of QEMU has a filter of its own between the device and the image. Ours would take its place, and a mirror, say,
 * would miss what the guest writes.
 */
async function refuseBusy(monitor: Monitor, disks: readonly FoundDisk[]): Promise<void> {
  const { edges } = await monitor.execute('x-debug-query-block-graph', {});
  const jobs = edges.filter(({ parent }) => parent.startsWith('block-job:'));
  for (const { name, node, insertion } of disks) {
    const nodes = [node.nodeName, ...(insertion.kind === 'raw-node' ? [insertion.top.nodeName] : [])];
    const job = jobs.find(({ child }) => nodes.includes(child));
    if (job === undefined) continue;
    const id = job.parent.slice('block-job:'.length);
    throw new BusyError('disk-busy', `QEMU's block job ${id} works on disk ${name}`, {
      object: monitor.name,
      advice: `Wait for it to end (a live restore, a migration, another backup), or leave the disk out: --exclude ${name}.`,
    });
  }
}

export function notPossible(object: string, disk: string, why: string): FailedError {
  return new FailedError('disk-not-possible', `disk ${disk} cannot be backed up while the guest runs: ${why}`, {
    object,
    advice: `Leave it out with --exclude ${disk}; back up its image while the guest is off.`,
  });
}
