// SPDX-License-Identifier: MIT
// Serves one raw file until it is interrupted: node test/nbd/serve-file.mjs FILE SOCKET [ro]. For tests and for trying.

import { openFileDevice } from '#vmar/src/block/file-device.js';
import { NbdServer } from '#vmar/src/nbd/server/nbd-server.js';

const [file, socket, mode] = process.argv.slice(2);
const readOnly = mode === 'ro';
const device = await openFileDevice(file, { readOnly });
const log = { info: console.error, warn: console.error, debug: console.error };
const server = new NbdServer({ exports: [{ name: '', device, readOnly }], log });
await server.listenUnix(socket);
console.log(`ready: nbd+unix:///?socket=${socket}`);
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await server.close();
    await device.close();
  });
}
