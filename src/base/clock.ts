// SPDX-License-Identifier: MIT
// Time as something to be handed in, so that tests of waiting need not wait.

import { setTimeout as delay } from 'node:timers/promises';
import { InterruptedError } from './errors.js';

export interface Clock {
  /** Wall clock time since 1970; may jump. */
  nowMillis(): number;
  /** For differences only; never goes back. */
  monotonicMillis(): number;
  /** Resolves after at least `millis`. Rejects with InterruptedError, at once, when the signal aborts. */
  sleep(millis: number, signal?: AbortSignal): Promise<void>;
}

/** Timers of Node fire at once for longer delays. */
export const LONGEST_DELAY_MILLIS = 2 ** 31 - 1;

export const REAL_CLOCK: Clock = {
  nowMillis: () => Date.now(),
  monotonicMillis: () => performance.now(),
  async sleep(millis, signal) {
    const end = performance.now() + millis;
    for (let left = millis; left > 0; left = end - performance.now()) {
      const step = Math.min(Math.ceil(left), LONGEST_DELAY_MILLIS);
      try {
        await delay(step, undefined, signal === undefined ? {} : { signal });
      } catch {
        throw new InterruptedError();
      }
    }
    if (signal?.aborted) throw new InterruptedError();
  },
};

interface Sleeper {
  readonly wakeAt: number;
  readonly wake: () => void;
}

/** A clock that stands still until it is told to move; for tests. */
export class ManualClock implements Clock {
  readonly #startMillis: number;
  #elapsed = 0;
  #sleepers: Sleeper[] = [];

  constructor(startMillis = 0) {
    this.#startMillis = startMillis;
  }

  /** How many sleeps are under way. */
  get sleeping(): number {
    return this.#sleepers.length;
  }

  nowMillis(): number {
    return this.#startMillis + this.#elapsed;
  }

  monotonicMillis(): number {
    return this.#elapsed;
  }

  sleep(millis: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(new InterruptedError());
    if (millis <= 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
        reject(new InterruptedError());
      };
      const wake = () => {
        signal?.removeEventListener('abort', stop);
        resolve();
      };
      const sleeper: Sleeper = { wakeAt: this.#elapsed + millis, wake };
      this.#sleepers.push(sleeper);
      signal?.addEventListener('abort', stop, { once: true });
    });
  }

  /** Moves time on and wakes, in order, those whose time has come. */
  advance(millis: number): void {
    this.#elapsed += millis;
    const due = this.#sleepers.filter((sleeper) => sleeper.wakeAt <= this.#elapsed);
    this.#sleepers = this.#sleepers.filter((sleeper) => sleeper.wakeAt > this.#elapsed);
    for (const sleeper of due.sort((a, b) => a.wakeAt - b.wakeAt)) sleeper.wake();
  }

  /** Moves time on to the next sleeper's, if there is one. */
  advanceToNext(): void {
    const next = Math.min(...this.#sleepers.map((sleeper) => sleeper.wakeAt));
    if (Number.isFinite(next)) this.advance(next - this.#elapsed);
  }
}
