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
import { fakeServer, GREETING } from '../qmp/fake-line-server.js';

it.each([
  ['qmp_capabilities', ''],
  ['query-named-block-nodes', '{"return": {}, "id": "vmar-1"}\n'],
])('takes no guest for moved that does not answer %s, and asks for seconds only', async (last, first) => {
  const path = join(scratchDirectory(), 'qmp');
  const fake = await fakeServer(
    path,
    (socket) => socket.write(GREETING),
    (line, socket) => {
      if (line.includes('qmp_capabilities')) socket.write(first);
    },
  );
  const host = {
    address: { kind: 'socket' as const, path },
    // Far beyond what a test may take.
    openMonitor: (signal?: AbortSignal) => QmpClient.open(path, { commandMillis: 3_600_000, signal }),
    runWindow: () => Promise.reject(new Error('not now')),
    clearBackups: () => Promise.reject(new Error('not now')),
  };
  const disks = [{ name: 'a', targetPath: '/nowhere/a.raw', statePath: '/nowhere/a.raw.vmar-live' }];
  const options = { socketPath: path, clock: REAL_CLOCK, log: SILENT, signal: new AbortController().signal };
  expect(await findMoved(host, disks, options)).toEqual([]);
  expect(JSON.parse(fake.lines.at(-1) ?? '').execute).toBe(last);
});
