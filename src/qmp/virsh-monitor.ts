// SPDX-License-Identifier: MIT
// A monitor that libvirt owns, reached through `virsh qemu-monitor-command`: one process a command, and no events.

import { spawn } from 'node:child_process';
import { Limiter } from '../base/bounded-queue.js';
import { FailedError, systemErrorCode } from '../base/errors.js';
import type { AnswerOf, ArgumentsOf, CommandName } from './commands.js';
import { AnswerFault, record } from './decode.js';
import { excerpt, LineFault, MOST_LINE_BYTES, parseLine } from './json-lines.js';
import { DEFAULT_COMMAND_MILLIS, type ExecuteOptions, type Monitor } from './monitor.js';
import { decodeAnswer, inTime, returned } from './qmp-client.js';
import { badAnswer, commandTimeout, monitorLost } from './qmp-errors.js';

export interface VirshOptions {
  /** Instead of `virsh`. */
  readonly command?: string | undefined;
  readonly commandMillis?: number;
}

interface Output {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

const MOST_ERROR_BYTES = 4096;

export class VirshMonitor implements Monitor {
  readonly name: string;
  readonly hasEvents = false;
  readonly #domain: string;
  readonly #virsh: string;
  readonly #commandMillis: number;
  /** The domain takes one at a time, too; a crowd that waits for it would be in the way of others. */
  readonly #turn = new Limiter(1);
  #closed = false;

  constructor(domain: string, options: VirshOptions = {}) {
    this.name = `domain ${domain}`;
    this.#domain = domain;
    this.#virsh = options.command ?? 'virsh';
    this.#commandMillis = options.commandMillis ?? DEFAULT_COMMAND_MILLIS;
  }

  async execute<C extends CommandName>(
    command: C,
    given: ArgumentsOf<C>,
    options: ExecuteOptions = {},
  ): Promise<AnswerOf<C>> {
    if (this.#closed) throw monitorLost(this.name, 'it was closed');
    const message = JSON.stringify({ execute: command, arguments: given });
    const output = await this.#turn.run(() => this.#run(command, message, options));
    if (output.status !== 0) throw this.#failed(command, output);
    try {
      const message = record(parseLine(output.stdout), 'the message');
      return decodeAnswer(this.name, command, returned(this.name, command, message));
    } catch (error) {
      if (error instanceof LineFault || error instanceof AnswerFault) {
        throw badAnswer(this.name, `${error.message}, from ${excerpt(output.stdout)}`);
      }
      throw error;
    }
  }

  onEvent(): () => void {
    return () => {};
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  async #run(command: string, message: string, { timeoutMillis, signal }: ExecuteOptions): Promise<Output> {
    // After "--" nothing is taken for an option, whatever the domain is called.
    const words = ['qemu-monitor-command', '--', this.#domain, message];
    const child = spawn(this.#virsh, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    const finished = new Promise<Output>((resolve, reject) => {
      const stdout: Buffer[] = [];
      let stdoutBytes = 0;
      let stderr = '';
      child.stdout.on('data', (bytes: Buffer) => {
        stdoutBytes += bytes.length;
        if (stdoutBytes <= MOST_LINE_BYTES) stdout.push(bytes);
        else reject(badAnswer(this.name, `more than ${MOST_LINE_BYTES} bytes`));
      });
      child.stderr.on('data', (bytes: Buffer) => {
        if (stderr.length < MOST_ERROR_BYTES) stderr += bytes.toString('utf8');
      });
      child.on('error', (error) => reject(this.#missing(error)));
      child.on('close', (status) => resolve({ status, stdout: Buffer.concat(stdout), stderr }));
    });
    const millis = timeoutMillis ?? this.#commandMillis;
    try {
      return await inTime(finished, millis, signal, () => commandTimeout(this.name, command, millis));
    } finally {
      // Of no effect on one that has ended. The command may have reached QEMU all the same.
      child.kill('SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
    }
  }

  #missing(error: Error): FailedError {
    const why = systemErrorCode(error) === 'ENOENT' ? 'there is no such command' : error.message;
    return new FailedError('qmp-missing', `virsh cannot be run: ${why}`, {
      object: this.#virsh,
      advice: "Install libvirt's client, or give the guest's own monitor with --qmp SOCKET.",
    });
  }

  #failed(command: string, { stderr, status }: Output): FailedError {
    const why = stderr.trim().split('\n')[0] || `it ended with status ${status}`;
    return new FailedError('qmp-missing', `virsh could not pass on ${command}: ${why}`, {
      object: this.name,
      advice: 'Check with `virsh list` that the domain runs, and that this user may manage it.',
    });
  }
}
