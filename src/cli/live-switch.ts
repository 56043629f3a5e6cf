// SPDX-License-Identifier: MIT
// Moving the guest of a live restore to its targets: what the program has for it.

import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { sweepDead } from '../../plugins/source-qemu/sweep.js';
import { REAL_CLOCK } from '../base/clock.js';
import { GuestMover } from '../live/switch/guest-mover.js';
import type { SwitchHost } from '../live/switch/switch-over.js';
import { runGuarded } from '../qmp/guardian.js';
import type { MonitorAddress } from '../qmp/monitor.js';
import { openMonitor } from '../qmp/open-monitor.js';
import { notQmp } from '../qmp/qmp-errors.js';
import type { LiveReport } from './live-report.js';

/** Lies beside this program, bundled or not. */
const GUARDIAN = fileURLToPath(new URL('./qmp-guardian.js', import.meta.url));

export function switchHost(address: MonitorAddress): SwitchHost {
  return {
    address,
    openMonitor: (signal) => openMonitor(address, { signal }),
    runWindow: (plan, signal, onReady) => runGuarded(GUARDIAN, plan, signal, onReady),
    clearBackups: sweepDead,
  };
}

/** @throws FailedError 'not-qmp' for what can be no monitor. A socket that is not there yet is waited for. */
export async function checkMonitor(address: MonitorAddress): Promise<void> {
  if (address.kind !== 'socket') return;
  const found = await stat(address.path).catch(() => undefined);
  if (found === undefined || found.isSocket()) return;
  throw notQmp(address.path, found.isDirectory() ? 'a directory' : 'a file that is no socket');
}

export function openMover(address: MonitorAddress, report: LiveReport): GuestMover {
  return new GuestMover({
    host: switchHost(address),
    clock: REAL_CLOCK,
    onEvent: (event) => report.tell(event),
  });
}
