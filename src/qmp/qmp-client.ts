// SPDX-License-Identifier: MIT
// A QMP session over a Unix socket.
//
// Guarantee: every call settles. What is unanswered when the socket goes away fails with 'qmp-lost'; what is unanswered
// when its time is over fails with 'qmp-timeout', and a late answer is dropped.

import { BusyError, type FailedError, InterruptedError } from '../base/errors.js';
import { type QemuVersion, qemuVersion } from './answers.js';
import { type AnswerOf, type ArgumentsOf, COMMANDS, type CommandName } from './commands.js';
import { AnswerFault, type JsonRecord, maybe, member, record, text } from './decode.js';
import { decodeEvent, type QmpEvent } from './events.js';
import { excerpt, LineFault, parseLine } from './json-lines.js';
import { LineSocket } from './line-socket.js';
import { DEFAULT_COMMAND_MILLIS, type ExecuteOptions, type Monitor } from './monitor.js';
import {
  badAnswer,
  commandTimeout,
  monitorBusy,
  monitorLost,
  notQmp,
  QmpCommandError,
  silentProgram,
} from './qmp-errors.js';
import { isQemu, listenerOf } from './socket-owner.js';

export interface QmpOptions {
  /** How long the greeting is waited for: QEMU greets one client at a time. */
  readonly greetingMillis?: number;
  readonly commandMillis?: number;
  readonly signal?: AbortSignal | undefined;
}

const GREETING_MILLIS = 5000;

interface Pending {
  readonly settle: (message: JsonRecord) => void;
  readonly fail: (error: Error) => void;
}

type Phase = 'greeting' | 'open' | 'ended';

export class QmpClient implements Monitor {
  readonly name: string;
  readonly hasEvents = true;
  readonly #commandMillis: number;
  readonly #pending = new Map<string, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  #socket: LineSocket | undefined;
  #phase: Phase = 'greeting';
  #failure: FailedError | undefined;
  #greeted: ((message: JsonRecord) => void) | undefined;
  #refused: ((error: Error) => void) | undefined;
  #version: QemuVersion | undefined;
  #lastId = 0;

  private constructor(path: string, options: QmpOptions) {
    this.name = path;
    this.#commandMillis = options.commandMillis ?? DEFAULT_COMMAND_MILLIS;
  }

  /**
   * Connects and leaves the negotiation mode.
   * @throws FailedError 'qmp-missing', 'not-qmp', 'qmp-lost'; BusyError 'qmp-busy'; InterruptedError
   */
  static async open(path: string, options: QmpOptions = {}): Promise<QmpClient> {
    const client = new QmpClient(path, options);
    try {
      await client.#open(options);
      return client;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  /** As the greeting has it. */
  get version(): QemuVersion {
    return this.#version!;
  }

  async #open(options: QmpOptions): Promise<void> {
    const { greetingMillis = GREETING_MILLIS, signal } = options;
    const greeting = new Promise<JsonRecord>((resolve, reject) => {
      this.#greeted = resolve;
      this.#refused = reject;
    });
    greeting.catch(() => {});
    const events = {
      onLine: (line: Buffer) => this.#onLine(line),
      onEnd: (why: string, cause?: unknown) => this.#lose(why, cause),
      onPartial: (start: Uint8Array) => this.#onPartial(start),
    };
    this.#socket = await LineSocket.connect(this.name, events, { timeoutMillis: greetingMillis, signal });
    const message = await this.#greeting(greeting, greetingMillis, signal);
    this.#version = this.#decodeGreeting(message);
    this.#phase = 'open';
    await this.#call('qmp_capabilities', {}, { signal });
  }

  /** A QEMU that has another client says nothing; nor do others who wait to be spoken to first. */
  async #greeting(
    greeting: Promise<JsonRecord>,
    greetingMillis: number,
    signal: AbortSignal | undefined,
  ): Promise<JsonRecord> {
    try {
      return await inTime(greeting, greetingMillis, signal, () => monitorBusy(this.name, greetingMillis));
    } catch (error) {
      const listener = error instanceof BusyError ? await listenerOf(this.name) : undefined;
      if (listener === undefined || isQemu(listener)) throw error;
      throw silentProgram(this.name, listener, greetingMillis);
    }
  }

  #decodeGreeting(message: JsonRecord): QemuVersion {
    try {
      return member(member(message, 'QMP', record, ''), 'version', qemuVersion, 'QMP');
    } catch {
      throw notQmp(this.name, excerpt(Buffer.from(JSON.stringify(message))));
    }
  }

  async execute<C extends CommandName>(
    command: C,
    given: ArgumentsOf<C>,
    options: ExecuteOptions = {},
  ): Promise<AnswerOf<C>> {
    return decodeAnswer(this.name, command, await this.#call(command, given, options));
  }

  /** The answer's "return". */
  async #call(command: string, given: object, options: ExecuteOptions): Promise<unknown> {
    if (this.#phase === 'ended') throw this.#failure ?? monitorLost(this.name, 'it was closed');
    const id = `vmar-${++this.#lastId}`;
    const answer = new Promise<JsonRecord>((resolve, reject) => {
      this.#pending.set(id, { settle: resolve, fail: reject });
    });
    this.#socket?.write(`${JSON.stringify({ execute: command, arguments: given, id })}\n`);
    const millis = options.timeoutMillis ?? this.#commandMillis;
    try {
      const message = await inTime(answer, millis, options.signal, () => commandTimeout(this.name, command, millis));
      return returned(this.name, command, message);
    } finally {
      this.#pending.delete(id);
    }
  }

  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#end(monitorLost(this.name, 'it was closed'));
  }

  #onPartial(start: Uint8Array): void {
    const first = start.find((byte) => byte > 0x20);
    if (this.#phase === 'greeting' && first !== undefined && first !== 0x7b) {
      this.#end(notQmp(this.name, excerpt(start)));
    }
  }

  #onLine(line: Buffer): void {
    this.#onPartial(line);
    if (this.#phase === 'ended') return;
    try {
      this.#onMessage(record(parseLine(line), 'the message'));
    } catch (error) {
      if (!(error instanceof LineFault || error instanceof AnswerFault)) throw error;
      if (this.#phase === 'greeting') this.#end(notQmp(this.name, excerpt(line)));
      else this.#end(badAnswer(this.name, error.message));
    }
  }

  #onMessage(message: JsonRecord): void {
    if (this.#phase === 'greeting') {
      this.#greeted?.(message);
      return;
    }
    if (message.event !== undefined) {
      const event = decodeEvent(message);
      for (const listener of this.#listeners) listener(event);
      return;
    }
    const { id } = message;
    if (typeof id === 'string') this.#pending.get(id)?.settle(message);
    else if (message.error !== undefined) throw new AnswerFault(`an error without an id: ${describeError(message)}`);
  }

  #lose(why: string, cause: unknown): void {
    this.#end(
      this.#phase === 'greeting'
        ? monitorLost(this.name, `${why} before it greeted`, cause)
        : monitorLost(this.name, why, cause),
    );
  }

  #end(error: FailedError): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'ended';
    this.#failure = error;
    this.#socket?.close();
    this.#refused?.(error);
    for (const { fail } of this.#pending.values()) fail(error);
    this.#pending.clear();
  }
}

/** The "return" of an answer. @throws QmpCommandError for an error, 'qmp-bad-answer' for neither */
export function returned(object: string, command: string, message: JsonRecord): unknown {
  try {
    const error = maybe(message, 'error', record, '');
    if (error !== undefined) {
      const errorClass = member(error, 'class', text, 'error');
      throw new QmpCommandError(object, command, errorClass, member(error, 'desc', text, 'error'));
    }
    if (!('return' in message)) throw new AnswerFault('neither a return nor an error');
    return message.return;
  } catch (error) {
    if (error instanceof AnswerFault) throw badAnswer(object, `${command}: ${error.message}`);
    throw error;
  }
}

export function decodeAnswer<C extends CommandName>(object: string, command: C, value: unknown): AnswerOf<C> {
  try {
    return COMMANDS[command].decode(value, command) as AnswerOf<C>;
  } catch (error) {
    if (error instanceof AnswerFault) throw badAnswer(object, error.message);
    throw error;
  }
}

function describeError(message: JsonRecord): string {
  return JSON.stringify(message.error).slice(0, 200);
}

/** As the promise; rejects when the time is over or the signal aborts, and then leaves the promise to itself. */
export function inTime<T>(
  promise: Promise<T>,
  millis: number,
  signal: AbortSignal | undefined,
  late: () => Error,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => done(() => reject(new InterruptedError()));
    const timer = setTimeout(() => done(() => reject(late())), millis);
    const done = (settle: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      settle();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    promise.then(
      (value) => done(() => resolve(value)),
      (error: unknown) => done(() => reject(error)),
    );
    if (signal?.aborted) onAbort();
  });
}
