// SPDX-License-Identifier: MIT
// A qemu-system with disks and no system on them: it runs, halted by its firmware, and the test writes in its name.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

interface Message {
  readonly QMP?: object;
  readonly event?: string;
  readonly timestamp?: { readonly seconds: number; readonly microseconds: number };
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** A monitor without types, for what only tests ask for. */
export class RawMonitor {
  readonly events: { event: string; atMicros: number }[] = [];
  readonly #socket: net.Socket;
  readonly #waiting: ((message: Message) => void)[] = [];
  readonly #unsent: string[] = [];
  #isOpen = false;
  #rest = '';

  constructor(path: string) {
    this.#socket = new net.Socket();
    this.#socket.on('error', (error) => {
      // A socket is there a moment before anybody listens to it.
      if ('code' in error && error.code === 'ECONNREFUSED') setTimeout(() => this.#socket.connect(path), 10);
    });
    this.#socket.on('connect', () => {
      this.#isOpen = true;
      for (const line of this.#unsent.splice(0)) this.#socket.write(line);
    });
    this.#socket.on('data', (bytes) => {
      const lines = (this.#rest + bytes.toString()).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#take(JSON.parse(line));
    });
    this.#socket.connect(path);
    void this.ask('qmp_capabilities');
  }

  #take(message: Message): void {
    const { event, timestamp } = message;
    if (event !== undefined && timestamp !== undefined) {
      this.events.push({ event, atMicros: timestamp.seconds * 1e6 + timestamp.microseconds });
    } else if (message.QMP === undefined) this.#waiting.shift()?.(message);
  }

  async ask(execute: string, given: object = {}): Promise<unknown> {
    const line = `${JSON.stringify({ execute, arguments: given })}\n`;
    if (this.#isOpen) this.#socket.write(line);
    else this.#unsent.push(line);
    const message = await new Promise<Message>((resolve) => this.#waiting.push(resolve));
    if (message.error) throw new Error(`${execute}: ${message.error.desc}`);
    return message.return;
  }

  close(): void {
    this.#socket.destroy();
  }
}

export interface Machine {
  readonly child: ChildProcess;
  /** The monitor for the backup. */
  readonly qmp: string;
  /** The test's own. */
  readonly monitor: RawMonitor;
  /** Writes as the guest's device would; `device` is its id or place. */
  write(device: string, pattern: number, offsetBytes: number, lengthBytes: number): Promise<void>;
  kill(): Promise<void>;
  /** When it has ended, by whomever. */
  readonly ended: Promise<void>;
}

export function haveMachine(untested: string): boolean {
  if (spawnSync('qemu-system-x86_64', ['--version']).error === undefined) return true;
  console.warn(`\n!!! qemu-system-x86_64 is missing: NOT TESTED: ${untested}\n`);
  return false;
}

export async function startMachine(directory: string, words: readonly string[]): Promise<Machine> {
  const [qmp, own] = [join(directory, 'machine.qmp'), join(directory, 'machine.own')];
  for (const path of [qmp, own]) rmSync(path, { force: true });
  const monitors = ['-qmp', `unix:${qmp},server=on,wait=off`, '-qmp', `unix:${own},server=on,wait=off`];
  const base = ['-accel', 'tcg', '-m', '64', '-nodefaults', '-display', 'none', '-name', 'web'];
  const child = spawn('qemu-system-x86_64', [...base, ...monitors, ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (bytes: Buffer) => {
    said += bytes.toString();
  });
  const ended = new Promise<void>((resolve) =>
    child.once('exit', (status, signal) => {
      if (status !== 0 && signal !== 'SIGKILL') console.warn(`qemu-system ended with ${signal}: ${said}`);
      resolve();
    }),
  );
  for (let turn = 0; !existsSync(own); turn++) {
    if (child.exitCode !== null || turn > 10_000) throw new Error(`qemu-system did not start: ${said}`);
    await delay(10);
  }
  const monitor = new RawMonitor(own);
  return {
    ...{ child, qmp, monitor, ended },
    write: async (device, pattern, offsetBytes, lengthBytes) => {
      const line = `qemu-io -d ${device} "write -P ${pattern} ${offsetBytes} ${lengthBytes}"`;
      const answer = String(await monitor.ask('human-monitor-command', { 'command-line': line }));
      if (/fail|error/i.test(answer)) throw new Error(answer);
    },
    kill: async () => {
      monitor.close();
      child.kill('SIGKILL');
      await ended;
    },
  };
}
