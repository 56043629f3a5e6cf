// SPDX-License-Identifier: MIT
// Disks of a guest that QEMU's block layer does not have: another program, or the host's kernel, serves them.

import { FailedError } from '../../src/base/errors.js';
import type { Monitor } from '../../src/plugin-api.js';

export interface UnseenDisk {
  /** The device's id, or its place. */
  readonly device: string;
  readonly reason: string;
}

/** Where QEMU keeps devices that somebody added: those with an id, and the others. */
const PLACES = ['/machine/peripheral', '/machine/peripheral-anon'];
/** As "vhost-user-blk-pci" or "vhost-scsi-ccw". */
const UNSEEN = /^child<(vhost(?:-user)?-(?:blk|scsi))-[a-z-]+>$/;

/** Asks nothing of a storage daemon, which has no devices. */
export async function unseenDisks(monitor: Monitor): Promise<readonly UnseenDisk[]> {
  const found = await Promise.all(PLACES.map((path) => childrenOf(monitor, path)));
  return found.flat().flatMap(({ name, type }) => {
    const kind = UNSEEN.exec(type)?.[1];
    if (kind === undefined) return [];
    return [{ device: name, reason: `${kind}: another program serves it, and QEMU cannot copy it` }];
  });
}

async function childrenOf(monitor: Monitor, path: string) {
  try {
    return await monitor.execute('qom-list', { path });
  } catch (error) {
    if (error instanceof FailedError && error.code === 'qmp-command-failed') return [];
    throw error;
  }
}
