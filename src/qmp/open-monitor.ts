// SPDX-License-Identifier: MIT
// From an address to a monitor.

import type { Monitor, MonitorAddress } from './monitor.js';
import { QmpClient, type QmpOptions } from './qmp-client.js';
import { VirshMonitor } from './virsh-monitor.js';

/** Rejects as `QmpClient.open` does. The caller closes it as soon as it has no more to ask: others may wait for it. */
export async function openMonitor(address: MonitorAddress, options: QmpOptions = {}): Promise<Monitor> {
  if (address.kind === 'socket') return await QmpClient.open(address.path, options);
  return new VirshMonitor(address.domain, { command: address.command });
}
