// SPDX-License-Identifier: MIT
// What a QEMU must be able to do so that its disks can be moved, and since when it can.

import { formatVersion } from '../../qmp/features.js';
import { refuseMigrating } from '../../qmp/migration.js';
import type { Monitor } from '../../qmp/monitor.js';
import { qemuTooOld } from '../../qmp/qmp-errors.js';

export interface SwitchFeatures {
  readonly qemu: string;
  /** There is a guest; a storage daemon has none. */
  readonly canPause: boolean;
  /** Proxmox VE's own driver for live restores. */
  readonly hasAllocTrack: boolean;
}

/** A device takes another drive while it is in use since this version; the schema does not tell. */
const SINCE = { major: 6, minor: 2 };

/** @throws FailedError 'qemu-too-old', which names what is missing and the version that has it; BusyError 'guest-migrating' */
export async function checkSwitchable(monitor: Monitor): Promise<SwitchFeatures> {
  const version = await monitor.execute('query-version', {});
  const qemu = formatVersion(version);
  const { major, minor } = SINCE;
  if (version.major < major || (version.major === major && version.minor < minor)) {
    throw qemuTooOld(monitor.name, qemu, ['other drives for devices in use', 'blockdev-reopen'], `${major}.${minor}`);
  }
  const names = await monitor.execute('query-qmp-schema', {});
  const canPause = names.has('query-status');
  if (canPause) await refuseMigrating(monitor, 'Its disks are moved when that has ended.');
  return { qemu, canPause, hasAllocTrack: names.has('alloc-track') };
}
