// SPDX-License-Identifier: MIT
// A monitor that libvirt owns, reached through `virsh qemu-monitor-command`, which passes commands on and no events.

import { Limiter } from '../base/bounded-queue.js';
import { FailedError, systemErrorCode } from '../base/errors.js';
import type { AnswerOf, ArgumentsOf, CommandName } from './commands.js';
import { AnswerFault, record } from './decode.js';
import { excerpt, LineFault, MOST_LINE_BYTES, parseLine } from './json-lines.js';
import { DEFAULT_COMMAND_MILLIS, type ExecuteOptions, type Monitor } from './monitor.js';
import { decodeAnswer, inTime, returned } from './qmp-client.js';
import { badAnswer, commandTimeout, monitorLost } from './qmp-errors.js';
import { ShellFault, type ShellOutput, VirshShell } from './virsh-shell.js';

export interface VirshOptions {
  /** Instead of `virsh`. */
  readonly command?: string | undefined;
  readonly commandMillis?: number;
}

/** A shell that nobody asks anything does not stay. */
const IDLE_MILLIS = 1000;

export class VirshMonitor implements Monitor {
  readonly name: string;
  readonly hasEvents = false;
  readonly #domain: string;
  readonly #virsh: string;
  readonly #commandMillis: number;
  /** The domain takes one at a time, too; a crowd that waits for it would be in the way of others. */
  readonly #turn = new Limiter(1);
  #shell: VirshShell | undefined;
  #idle: NodeJS.Timeout | undefined;
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
    const { lines, errors } = await this.#turn.run(() => this.#run(command, message, options));
    const answer = lines.find((line) => line.startsWith('{'));
    if (answer === undefined && lines.length === 0) throw this.#failed(command, errors);
    const found = Buffer.from(answer ?? lines.join(' '));
    try {
      return decodeAnswer(this.name, command, returned(this.name, command, record(parseLine(found), 'the message')));
    } catch (error) {
      if (error instanceof LineFault || error instanceof AnswerFault) {
        throw badAnswer(this.name, `${error.message}, from ${excerpt(found)}`);
      }
      throw error;
    }
  }

  onEvent(): () => void {
    return () => {};
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#endShell();
  }

  async #run(command: string, message: string, { timeoutMillis, signal }: ExecuteOptions): Promise<ShellOutput> {
    if (this.#closed) throw monitorLost(this.name, 'it was closed');
    clearTimeout(this.#idle);
    if (this.#shell?.isUsable !== true) this.#endShell();
    this.#shell ??= new VirshShell(this.#virsh, MOST_LINE_BYTES);
    const millis = timeoutMillis ?? this.#commandMillis;
    try {
      // After "--" nothing is taken for an option, whatever the domain is called.
      const output = this.#shell.run(['qemu-monitor-command', '--', this.#domain, message]);
      const taken = await inTime(output, millis, signal, () => commandTimeout(this.name, command, millis));
      this.#idle = setTimeout(() => this.#endShell(), IDLE_MILLIS);
      return taken;
    } catch (error) {
      this.#endShell();
      throw error instanceof ShellFault ? this.#fault(command, error) : error;
    }
  }

  #endShell(): void {
    clearTimeout(this.#idle);
    this.#shell?.end();
    this.#shell = undefined;
  }

  #fault(command: string, fault: ShellFault): FailedError {
    if (fault.kind === 'missing') return this.#missing(fault);
    if (fault.kind === 'ended') return this.#failed(command, fault.message);
    return badAnswer(this.name, fault.message);
  }

  #missing({ cause, message }: ShellFault): FailedError {
    const why = systemErrorCode(cause) === 'ENOENT' ? 'there is no such command' : message;
    return new FailedError('qmp-missing', `virsh cannot be run: ${why}`, {
      object: this.#virsh,
      advice: "Install libvirt's client, or give the guest's own monitor with --qmp SOCKET.",
    });
  }

  #failed(command: string, errors: string): FailedError {
    const why = errors.trim().split('\n')[0] || 'it said nothing';
    return new FailedError('qmp-missing', `virsh could not pass on ${command}: ${why}`, {
      object: this.name,
      advice: 'Check with `virsh list` that the domain runs, and that this user may manage it.',
    });
  }
}
