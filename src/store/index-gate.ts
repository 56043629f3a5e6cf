// SPDX-License-Identifier: MIT
// One process at a time opens, closes or writes the index.
//
// LMDB has a lock for writers, but one that opens takes no notice of it: it reads the newest transaction's number, looks
// at the rest of the file, and then sets the shared number to what it read. A commit by another process in between is
// undone by that, and what is written next is damaged. Closing as the last one races with opening in a similar way. So
// all three pass through this gate. Reading does not.

import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { flock } from '../base/syscalls.js';

const POLL_MILLIS = 2;

/** Runs actions one at a time, across processes. A process that dies lets the others in. */
export class IndexGate {
  readonly #gateFd: number;
  readonly #queueFd: number;
  #last: Promise<unknown> = Promise.resolve();

  constructor(paths: { readonly gate: string; readonly queue: string }) {
    this.#gateFd = openSync(paths.gate, 'a', 0o600);
    this.#queueFd = openSync(paths.queue, 'a', 0o600);
  }

  /** Settles as the action does. Actions of this process come in the order in which they were given. */
  async run<Result>(action: () => Result | Promise<Result>): Promise<Result> {
    const mine = this.#last.then(() => this.#runLocked(action));
    this.#last = mine.catch(() => undefined);
    return await mine;
  }

  /** Who wants in waits holding the queue; so one that goes in and out again and again does not keep others out. */
  async #runLocked<Result>(action: () => Result | Promise<Result>): Promise<Result> {
    await lock(this.#queueFd);
    try {
      await lock(this.#gateFd);
    } finally {
      flock(this.#queueFd, 'unlock', { wait: false });
    }
    try {
      return await action();
    } finally {
      flock(this.#gateFd, 'unlock', { wait: false });
    }
  }

  /** Nothing may run any more. */
  close(): void {
    closeSync(this.#gateFd);
    closeSync(this.#queueFd);
  }
}

async function lock(fd: number): Promise<void> {
  while (!flock(fd, 'exclusive', { wait: false })) await delay(POLL_MILLIS);
}
