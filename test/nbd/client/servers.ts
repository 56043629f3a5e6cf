// SPDX-License-Identifier: MIT
// Real NBD servers on Unix sockets for tests: nbdkit, qemu-nbd, qemu-storage-daemon.

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach } from 'vitest';

const running = new Set<ChildProcess>();

afterEach(async () => {
  await Promise.all([...running].map((child) => kill(child)));
});

export interface Server {
  readonly child: ChildProcess;
  readonly socket: string;
  readonly uri: string;
  kill(): Promise<void>;
}

/** Starts a server in the foreground and waits for its socket. */
export async function serve(socket: string, command: string, words: readonly string[]): Promise<Server> {
  const child = spawn(command, words, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (bytes: Buffer) => {
    said += bytes.toString();
  });
  let ended = false;
  child.once('close', () => {
    ended = true;
    running.delete(child);
  });
  child.once('error', () => {
    ended = true;
  });
  running.add(child);
  while (!isListening(socket)) {
    if (ended) throw new Error(`${command} ended: ${said}`);
    await delay(5);
  }
  return { child, socket, uri: `nbd+unix:///?socket=${encodeURIComponent(socket)}`, kill: () => kill(child) };
}

/** As the kernel says: a look at the file would be too early, and a connection would count as a client. */
function isListening(socket: string): boolean {
  return readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .some((line) => line.endsWith(` ${socket}`) && line.includes(' 00010000 '));
}

export function nbdkit(socket: string, ...words: string[]): Promise<Server> {
  return serve(socket, 'nbdkit', ['-f', '--exit-with-parent', '-U', socket, ...words]);
}

export function qemuNbd(socket: string, ...words: string[]): Promise<Server> {
  return serve(socket, 'qemu-nbd', ['--persistent', '--socket', socket, ...words]);
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGKILL');
  await closed;
}
