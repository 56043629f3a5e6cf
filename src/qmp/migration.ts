// SPDX-License-Identifier: MIT
// Whether a guest is on its way to another host. Then its images change hands, and nodes that are put under its disks
// would keep the migration from ending, or touch what is the other QEMU's by now.

import { BusyError } from '../base/errors.js';
import type { Monitor } from './monitor.js';
import { QmpCommandError } from './qmp-errors.js';

/** Of query-migrate, when nothing is under way. */
const AT_REST: ReadonlySet<string> = new Set(['none', 'completed', 'failed', 'cancelled']);

/** @throws BusyError 'guest-migrating' */
export async function refuseMigrating(monitor: Monitor, advice: string): Promise<void> {
  const status = await migrationStatus(monitor);
  if (status === undefined) return;
  throw new BusyError('guest-migrating', `the guest is being migrated, or was and runs elsewhere now (${status})`, {
    object: monitor.name,
    advice,
  });
}

async function migrationStatus(monitor: Monitor): Promise<string | undefined> {
  try {
    // "inmigrate", "finish-migrate", "postmigrate"
    const { status } = await monitor.execute('query-status', {});
    if (/migrate/.test(status)) return status;
    const { status: migration } = await monitor.execute('query-migrate', {});
    return AT_REST.has(migration) ? undefined : migration;
  } catch (error) {
    // A storage daemon has no guest.
    if (error instanceof QmpCommandError) return undefined;
    throw error;
  }
}
