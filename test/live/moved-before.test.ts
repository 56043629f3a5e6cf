// SPDX-License-Identifier: MIT
// Proves: a live restore that is begun again serves its guest also while QEMU answers nothing, as it does when it waits for
// that very export.

import { join } from 'node:path';
import { expect, it } from 'vitest';
import { REAL_CLOCK } from '#vmar/src/base/clock.js';
import { SILENT } from '#vmar/src/base/log.js';
import { findMoved } from '#vmar/src/live/switch/moved-before.js';
import { QmpClient } from '#vmar/src/qmp/qmp-client.js';
import { scratchDirectory } from '../base/scratch.js';
import { fakeMonitor } from '../qmp/fake-line-server.js';

it('takes no guest for moved that cannot be asked, and asks for seconds only', async () => {
  const path = join(scratchDirectory(), 'qmp');
  const fake = await fakeMonitor(path, () => undefined);
  const host = {
    address: { kind: 'socket' as const, path },
    // Far beyond what a test may take.
    openMonitor: () => QmpClient.open(path, { commandMillis: 3_600_000 }),
    runWindow: () => Promise.reject(new Error('not now')),
    clearBackups: () => Promise.reject(new Error('not now')),
  };
  const disks = [{ name: 'a', targetPath: '/nowhere/a.raw', statePath: '/nowhere/a.raw.vmar-live' }];
  const options = { socketPath: path, clock: REAL_CLOCK, log: SILENT, signal: new AbortController().signal };
  expect(await findMoved(host, disks, options)).toEqual([]);
  expect(fake.lines.map((line) => JSON.parse(line).execute)).toContain('query-named-block-nodes');
});
