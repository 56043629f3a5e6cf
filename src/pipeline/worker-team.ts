// SPDX-License-Identifier: MIT
// A few threads that answer each message with one message, in order. A message carries one task, or several small ones:
// waking a thread costs as much as hashing a cluster.

import type { Transferable } from 'node:worker_threads';
import { Worker } from 'node:worker_threads';
import { FailedError, type VmarError } from '../base/errors.js';
import { decodeError } from './error-message.js';
import { type Answer, COMPRESS, type Task, type WorkerSettings } from './messages.js';

/** Messages at a worker: one under way and one that it finds without waiting for the main thread. */
const MESSAGES_AT_WORKER = 2;
/** A message takes further tasks from the queue up to this much work … */
const MESSAGE_BYTES = 1 << 20;
/** … and this many of them. */
const MESSAGE_TASKS = 16;

interface Entry {
  readonly task: Task;
  readonly transfer: readonly Transferable[];
  resolve(answer: Answer): void;
  reject(reason: unknown): void;
}

interface Member {
  readonly worker: Worker;
  /** What it was sent, message by message, in the order of its answers. */
  readonly messages: Entry[][];
}

const NO_TRANSFER: readonly Transferable[] = [];

/** Threads start with the first task; while none is under way they do not keep the process alive. */
export class WorkerTeam {
  readonly #size: number;
  readonly #entry: URL;
  readonly #settings: () => WorkerSettings;
  readonly #waiting: Entry[] = [];
  #members: Member[] = [];
  #underWay = 0;
  #failure: VmarError | undefined;
  #closing: Promise<void> | undefined;

  /** `entry` is what the threads run; `settings` is asked once, when they start. */
  constructor(size: number, entry: URL, settings: () => WorkerSettings) {
    this.#size = size;
    this.#entry = entry;
    this.#settings = settings;
  }

  /** The worker's answer; rejects with its error, or with FailedError if a worker died or the team was closed. */
  run(task: Task, transfer: readonly Transferable[] = NO_TRANSFER): Promise<Answer> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.start();
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

  /** Once. */
  start(): void {
    if (this.#members.length > 0 || this.#failure !== undefined) return;
    const workerData = this.#settings();
    for (let index = 0; index < this.#size; index++) {
      const worker = new Worker(this.#entry, { workerData, execArgv: [] });
      const member: Member = { worker, messages: [] };
      worker.unref();
      worker.on('message', (answers: readonly Answer[]) => this.#take(member, answers));
      worker.on('messageerror', (cause) => this.#fail(death(String(cause), cause)));
      worker.on('error', (cause) => this.#fail(death(String(cause), cause)));
      worker.on('exit', (status) => this.#fail(death(`it exited with ${status}`)));
      this.#members.push(member);
    }
  }

  #give(entry: Entry): void {
    let idlest = this.#members[0]!;
    for (const member of this.#members) if (member.messages.length < idlest.messages.length) idlest = member;
    if (idlest.messages.length < MESSAGES_AT_WORKER) this.#post(idlest, [entry]);
    else this.#waiting.push(entry);
  }

  #post(member: Member, entries: Entry[]): void {
    member.messages.push(entries);
    const tasks = entries.map((entry) => entry.task);
    member.worker.postMessage(tasks, entries.length === 1 ? entries[0]!.transfer : NO_TRANSFER);
  }

  #take(member: Member, answers: readonly Answer[]): void {
    const entries = member.messages.shift();
    if (entries === undefined) return;
    if (this.#waiting.length > 0) this.#post(member, this.#nextMessage());
    this.#underWay -= entries.length;
    if (this.#underWay === 0) for (const { worker } of this.#members) worker.unref();
    for (const [index, entry] of entries.entries()) {
      const answer = answers[index]!;
      if (typeof answer === 'object' && 'error' in answer) entry.reject(decodeError(answer.error));
      else entry.resolve(answer);
    }
  }

  /** The task that waits longest, and those behind it while all together are small. */
  #nextMessage(): Entry[] {
    const entries = [this.#waiting.shift()!];
    let bytes = weight(entries[0]!.task);
    while (entries.length < MESSAGE_TASKS && this.#waiting.length > 0) {
      bytes += weight(this.#waiting[0]!.task);
      if (bytes > MESSAGE_BYTES) break;
      entries.push(this.#waiting.shift()!);
    }
    return entries;
  }

  /** The first failure is final: what lies in the slots of tasks under way is unknown from here on. */
  #fail(failure: VmarError): void {
    this.#failure ??= failure;
    const entries = [
      ...this.#members.flatMap((member) => member.messages.splice(0).flat()),
      ...this.#waiting.splice(0),
    ];
    this.#underWay = 0;
    if (this.#closing === undefined) for (const { worker } of this.#members) worker.unref();
    for (const entry of entries) entry.reject(this.#failure);
  }
}

/** Bytes that a task works on; Infinity for one that goes alone. */
function weight(task: Task): number {
  return 'task' in task || task[0] === COMPRESS ? Number.POSITIVE_INFINITY : task[3]!;
}

function death(why: string, cause?: unknown): FailedError {
  return new FailedError('worker-died', `a worker thread died: ${why}`, { cause });
}
