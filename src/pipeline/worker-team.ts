// SPDX-License-Identifier: MIT
// A few threads that answer each message with one message, in order.

import type { Transferable } from 'node:worker_threads';
import { Worker } from 'node:worker_threads';
import { FailedError, VmarError } from '../base/errors.js';
import { decodeError } from './error-message.js';
import type { Answer, Task, WorkerSettings } from './messages.js';

/** Tasks at a worker: one under way and one that it finds without waiting for the main thread. */
const TASKS_AT_WORKER = 2;

interface Entry {
  readonly task: Task;
  readonly transfer: readonly Transferable[];
  resolve(answer: Answer): void;
  reject(reason: unknown): void;
}

interface Member {
  readonly worker: Worker;
  /** In the order of its answers. */
  readonly entries: Entry[];
}

const NO_TRANSFER: readonly Transferable[] = [];

/** Threads start with the first task; while none is under way they do not keep the process alive. */
export class WorkerTeam {
  readonly #size: number;
  readonly #settings: WorkerSettings;
  readonly #entry: URL;
  readonly #waiting: Entry[] = [];
  #members: Member[] = [];
  #underWay = 0;
  #failure: VmarError | undefined;
  #closing: Promise<void> | undefined;

  /** `entry` is what the threads run. */
  constructor(size: number, settings: WorkerSettings, entry: URL) {
    this.#size = size;
    this.#settings = settings;
    this.#entry = entry;
  }

  /** The worker's answer; rejects with its error, or with FailedError if a worker died or the team was closed. */
  run(task: Task, transfer: readonly Transferable[] = NO_TRANSFER): Promise<Answer> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#members.length === 0) this.#start();
    return new Promise((resolve, reject) => {
      if (this.#underWay++ === 0) for (const { worker } of this.#members) worker.ref();
      this.#give({ task, transfer, resolve, reject });
    });
  }

  async close(): Promise<void> {
    this.#fail(new FailedError('executor-closed', 'the work was called off'));
    this.#closing ??= this.#terminate();
    await this.#closing;
  }

  /** While they end they keep the process alive: else it could exit with this very promise pending. */
  async #terminate(): Promise<void> {
    for (const { worker } of this.#members) worker.ref();
    await Promise.all(this.#members.map(({ worker }) => worker.terminate()));
  }

  #start(): void {
    for (let index = 0; index < this.#size; index++) {
      const worker = new Worker(this.#entry, { workerData: this.#settings, execArgv: [] });
      const member: Member = { worker, entries: [] };
      worker.unref();
      worker.on('message', (answer: Answer) => this.#take(member, answer));
      worker.on('messageerror', (cause) => this.#fail(death(String(cause), cause)));
      worker.on('error', (cause) => this.#fail(death(String(cause), cause)));
      worker.on('exit', (status) => this.#fail(death(`it exited with ${status}`)));
      this.#members.push(member);
    }
  }

  #give(entry: Entry): void {
    let idlest = this.#members[0]!;
    for (const member of this.#members) if (member.entries.length < idlest.entries.length) idlest = member;
    if (idlest.entries.length < TASKS_AT_WORKER) this.#post(idlest, entry);
    else this.#waiting.push(entry);
  }

  #post(member: Member, entry: Entry): void {
    member.entries.push(entry);
    member.worker.postMessage(entry.task, entry.transfer);
  }

  #take(member: Member, answer: Answer): void {
    const entry = member.entries.shift();
    if (entry === undefined) return;
    const next = this.#waiting.shift();
    if (next !== undefined) this.#post(member, next);
    if (--this.#underWay === 0) for (const { worker } of this.#members) worker.unref();
    if (typeof answer === 'object' && 'error' in answer) entry.reject(decodeError(answer.error));
    else entry.resolve(answer);
  }

  /** The first failure is final: what lies in the slots of tasks under way is unknown from here on. */
  #fail(failure: VmarError): void {
    this.#failure ??= failure;
    const entries = [...this.#members.flatMap((member) => member.entries.splice(0)), ...this.#waiting.splice(0)];
    this.#underWay = 0;
    if (this.#closing === undefined) for (const { worker } of this.#members) worker.unref();
    for (const entry of entries) entry.reject(this.#failure);
  }
}

function death(why: string, cause?: unknown): FailedError {
  return new FailedError('worker-died', `a worker thread died: ${why}`, { cause });
}
