// SPDX-License-Identifier: MIT
// Our client against our server: the contract of BlockDevice holds through both, whatever is behind.

import { join } from 'node:path';
import { afterEach } from 'vitest';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { NbdServer } from '#vmar/src/nbd/server/nbd-server.js';
import { scratchDirectory } from '../../base/scratch.js';
import { deviceContract } from '../../block/device-contract.js';

const directory = scratchDirectory();
const servers: NbdServer[] = [];
let count = 0;

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close({ graceMillis: 0 });
});

deviceContract('NbdDevice over an NbdServer', async (lengthBytes) => {
  const socket = join(directory, `s${count++}`);
  const device = new MemoryDevice(lengthBytes);
  const server = new NbdServer({ exports: [{ name: 'd', device, readOnly: false }] });
  servers.push(server);
  await server.listenUnix(socket);
  return await openNbdDevice(`nbd+unix:///d?socket=${socket}`, { readOnly: false, connections: 3 });
});
