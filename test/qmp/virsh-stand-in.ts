// SPDX-License-Identifier: MIT
// A stand-in for virsh: a shell that asks a machine's own monitor, with a connection for each command, and prints commands
// again as virsh does where it has readline.

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Makes `DIRECTORY/virsh`, which knows one domain, whatever it is called. */
export function makeVirsh(directory: string, qmpSocket: string): void {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, 'virsh');
  writeFileSync(path, SCRIPT.replace('NODE', process.execPath).replace('SOCKET', JSON.stringify(qmpSocket)));
  chmodSync(path, 0o755);
}

const SCRIPT = `#!NODE
const { connect } = require('net');
const { createInterface } = require('readline');
const ask = (command) => new Promise((resolve, reject) => {
  const socket = connect(SOCKET);
  socket.on('error', reject);
  let answers = 0;
  createInterface({ input: socket }).on('line', (line) => {
    const message = JSON.parse(line);
    if (message.QMP) socket.write('{"execute":"qmp_capabilities"}\\n' + command + '\\n');
    else if (!message.event && ++answers === 2) {
      socket.end();
      resolve(line);
    }
  });
});
const words = (line) => [...line.matchAll(/'([^']*)'|(\\S+)/g)].map(([, inner, bare]) => inner ?? bare);
(async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write('virsh # ' + line + '\\n');
    const [verb, ...rest] = words(line);
    if (verb === 'echo') process.stdout.write(rest.join(' '));
    else await ask(rest[2]).then(console.log, (error) => console.error('error: ' + error.message));
  }
})();
`;
