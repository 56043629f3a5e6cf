// SPDX-License-Identifier: MIT
// A Unix socket that says what a test wants: a monitor or an agent that misbehaves.

import { rmSync } from 'node:fs';
import net from 'node:net';
import { afterEach } from 'vitest';

export interface FakeServer {
  readonly path: string;
  /** Every line that came, decoded as Latin-1. */
  readonly lines: string[];
  readonly sockets: net.Socket[];
}

/** Closed after the test. `onLine` may answer through the socket. */
export async function fakeServer(
  path: string,
  onConnect: (socket: net.Socket) => void,
  onLine: (line: string, socket: net.Socket) => void = () => {},
): Promise<FakeServer> {
  rmSync(path, { force: true });
  const fake: FakeServer = { path, lines: [], sockets: [] };
  const server = net.createServer((socket) => {
    fake.sockets.push(socket);
    let rest = '';
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      const parts = (rest + bytes.toString('latin1')).split('\n');
      rest = parts.pop() ?? '';
      for (const line of parts) {
        fake.lines.push(line);
        onLine(line, socket);
      }
    });
    onConnect(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  running.push({ server, fake });
  return fake;
}

const running: { server: net.Server; fake: FakeServer }[] = [];

afterEach(() => {
  for (const { server, fake } of running.splice(0)) {
    for (const socket of fake.sockets) socket.destroy();
    server.close();
  }
});

export const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}\r\n';

/** Answers qmp_capabilities as it should, everything else by `answer`, whose result is sent with the id. */
export async function fakeMonitor(
  path: string,
  answer: (command: string, socket: net.Socket, id: string) => object | undefined,
): Promise<FakeServer> {
  return await fakeServer(
    path,
    (socket) => socket.write(GREETING),
    (line, socket) => {
      const { execute, id } = JSON.parse(line);
      const said = execute === 'qmp_capabilities' ? { return: {} } : answer(execute, socket, id);
      if (said !== undefined) socket.write(`${JSON.stringify({ ...said, id })}\r\n`);
    },
  );
}
