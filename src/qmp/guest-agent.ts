// SPDX-License-Identifier: MIT
// QEMU's guest agent (qemu-ga), as far as freezing file systems goes. The agent is the guest's: nothing of it is
// trusted, and it may be slow, silent or not there at all; the socket is QEMU's and always takes a connection.
//
// Guarantee: every call settles within its time.

import { randomInt } from 'node:crypto';
import { FailedError } from '../base/errors.js';
import { AnswerFault, count, type Decoder, type JsonRecord, maybe, record, text } from './decode.js';
import { LineFault, parseLine } from './json-lines.js';
import { type ConnectOptions, LineSocket, type LineSocketEvents } from './line-socket.js';
import { inTime } from './qmp-client.js';

/** Marks, in both directions, where a new beginning is made: it occurs in no JSON. */
const SENTINEL = 0xff;

const SYNC_MILLIS = 5000;

export interface AgentOptions {
  readonly syncMillis?: number;
  readonly signal?: AbortSignal | undefined;
}

interface Awaited {
  readonly settle: (message: JsonRecord) => void;
  readonly fail: (error: Error) => void;
}

export class GuestAgent {
  readonly name: string;
  #socket: LineSocket | undefined;
  #failure: FailedError | undefined;
  /** What the next answers belong to, in order. */
  readonly #awaited: Awaited[] = [];
  #onSync: ((id: number) => void) | undefined;

  private constructor(path: string) {
    this.name = path;
  }

  /**
   * Connects, and finds out that the agent is there and listens to us.
   * @throws FailedError 'agent-silent' if it does not answer in time, 'agent-lost', 'not-agent', or as LineSocket.connect
   */
  static async open(path: string, options: AgentOptions = {}): Promise<GuestAgent> {
    const agent = new GuestAgent(path);
    const timeoutMillis = options.syncMillis ?? SYNC_MILLIS;
    const events = {
      onLine: (line: Buffer) => agent.#onLine(line),
      onEnd: (why: string) => agent.#end(why),
    };
    agent.#socket = await connect(path, events, { timeoutMillis, signal: options.signal });
    try {
      await agent.#sync(timeoutMillis, options.signal);
      return agent;
    } catch (error) {
      agent.close();
      throw error;
    }
  }

  /** Answers to what others asked before are dropped up to the one that carries our number. */
  async #sync(timeoutMillis: number, signal: AbortSignal | undefined): Promise<void> {
    const id = randomInt(1, 2 ** 31);
    const synced = new Promise<void>((resolve, reject) => {
      this.#onSync = (found) => {
        if (found !== id) return;
        this.#onSync = undefined;
        resolve();
      };
      this.#awaited.push({ settle: () => {}, fail: reject });
    });
    const message = JSON.stringify({ execute: 'guest-sync-delimited', arguments: { id } });
    this.#socket?.write(Buffer.concat([Buffer.of(SENTINEL), Buffer.from(`${message}\n`)]));
    await inTime(synced, timeoutMillis, signal, () => silent(this.name, 'guest-sync-delimited', timeoutMillis));
    this.#awaited.length = 0;
  }

  /** Freezes all file systems; gives how many. It may take effect after its time is over: thaw then, too. */
  async freeze(timeoutMillis: number): Promise<number> {
    return await this.#call('guest-fsfreeze-freeze', count, timeoutMillis);
  }

  async thaw(timeoutMillis: number): Promise<number> {
    return await this.#call('guest-fsfreeze-thaw', count, timeoutMillis);
  }

  async freezeStatus(timeoutMillis: number): Promise<'thawed' | 'frozen'> {
    const status = await this.#call('guest-fsfreeze-status', text, timeoutMillis);
    return status === 'thawed' ? 'thawed' : 'frozen';
  }

  close(): void {
    this.#failure ??= lost(this.name, 'it was closed');
    this.#socket?.close();
    for (const { fail } of this.#awaited.splice(0)) fail(this.#failure);
  }

  async #call<T>(command: string, decode: Decoder<T>, timeoutMillis: number): Promise<T> {
    if (this.#failure) throw this.#failure;
    // The agent answers in order. One that comes too late is still taken by its own place in the row.
    const answer = new Promise<JsonRecord>((settle, fail) => this.#awaited.push({ settle, fail }));
    this.#socket?.write(`${JSON.stringify({ execute: command })}\n`);
    const message = await inTime(answer, timeoutMillis, undefined, () => silent(this.name, command, timeoutMillis));
    try {
      const error = maybe(message, 'error', record, '');
      if (error !== undefined) throw refused(this.name, command, maybe(error, 'desc', text, 'error') ?? '');
      return decode(message.return, command);
    } catch (error) {
      if (error instanceof AnswerFault) throw lost(this.name, error.message);
      throw error;
    }
  }

  #onLine(line: Buffer): void {
    const mark = line.lastIndexOf(SENTINEL);
    if (this.#onSync !== undefined && mark < 0) return;
    let message: JsonRecord;
    try {
      message = record(parseLine(line.subarray(mark + 1)), 'the message');
    } catch (error) {
      if (!(error instanceof LineFault || error instanceof AnswerFault)) throw error;
      if (this.#onSync === undefined) this.#end(`it sent ${error.message}`);
      return;
    }
    if (this.#onSync !== undefined) {
      if (typeof message.return === 'number') this.#onSync(message.return);
    } else this.#awaited.shift()?.settle(message);
  }

  #end(why: string): void {
    this.#failure ??= lost(this.name, why);
    this.close();
  }
}

/** A file or directory is told for what it is here: no agent, rather than no monitor. */
async function connect(path: string, events: LineSocketEvents, options: ConnectOptions): Promise<LineSocket> {
  try {
    return await LineSocket.connect(path, events, options);
  } catch (error) {
    if (!(error instanceof FailedError && error.code === 'not-qmp')) throw error;
    const message = `this is not the socket of a guest agent, but ${error.found}`;
    throw new FailedError('not-agent', message, { object: path, cause: error });
  }
}

function silent(object: string, command: string, waitedMillis: number): FailedError {
  return new FailedError('agent-silent', `the guest agent did not answer ${command} within ${waitedMillis} ms`, {
    object,
    advice: 'Check that qemu-guest-agent runs in the guest.',
  });
}

function lost(object: string, why: string): FailedError {
  return new FailedError('agent-lost', `the connection to the guest agent was lost: ${why}`, { object });
}

function refused(object: string, command: string, description: string): FailedError {
  return new FailedError('agent-refused', `the guest agent refused ${command}: ${description}`, { object });
}
