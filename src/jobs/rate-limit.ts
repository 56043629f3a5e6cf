// SPDX-License-Identifier: MIT
// A speed limit in bytes a second, kept in slices of 100 ms: bursts within a slice are free, sleeps are never shorter.

import type { Clock } from '../base/clock.js';
import { InterruptedError, UsageError } from '../base/errors.js';

const SLICE_MILLIS = 100;

export class RateLimit {
  readonly #clock: Clock;
  #bytesPerSecond: number;
  /** What was admitted and is not yet paid for by time, as of `#settledMillis`. */
  #debtBytes = 0;
  #settledMillis: number;
  /** Ends the sleep under way. */
  #wake: AbortController | undefined;

  /** @param bytesPerSecond 0 is no limit */
  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = checkSpeed(bytesPerSecond);
    this.#settledMillis = clock.monotonicMillis();
  }

  /** Takes effect at once, also for whoever waits. */
  setSpeed(bytesPerSecond: number): void {
    checkSpeed(bytesPerSecond);
    this.#settle();
    this.#bytesPerSecond = bytesPerSecond;
    this.#wake?.abort();
  }

  /**
   * Admits `bytes`, at once (undefined) or when their time has come. For one caller at a time. One piece may be larger
   * than a slice's worth; those after it wait the longer. Rejects with InterruptedError when the signal aborts.
   */
  admit(bytes: number, signal: AbortSignal): Promise<void> | undefined {
    if (this.#bytesPerSecond === 0) return undefined;
    if (this.#waitMillis() > 0) return this.#admitLater(bytes, signal);
    this.#debtBytes += bytes;
    return undefined;
  }

  async #admitLater(bytes: number, signal: AbortSignal): Promise<void> {
    for (let wait = this.#waitMillis(); wait > 0; wait = this.#waitMillis()) await this.#sleep(wait, signal);
    this.#debtBytes += bytes;
  }

  /** Shorter when the speed changes. */
  async #sleep(millis: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw new InterruptedError();
    const wake = new AbortController();
    const stop = () => wake.abort();
    signal.addEventListener('abort', stop, { once: true });
    this.#wake = wake;
    try {
      await this.#clock.sleep(millis, wake.signal);
    } catch (error) {
      if (signal.aborted || !wake.signal.aborted) throw error;
    } finally {
      this.#wake = undefined;
      signal.removeEventListener('abort', stop);
    }
  }

  /** How long until the debt is paid; 0 while it is less than a slice's worth. */
  #waitMillis(): number {
    this.#settle();
    if (this.#bytesPerSecond === 0) return 0;
    const millis = (this.#debtBytes * 1000) / this.#bytesPerSecond;
    return millis < SLICE_MILLIS ? 0 : millis;
  }

  #settle(): void {
    const now = this.#clock.monotonicMillis();
    const paid = ((now - this.#settledMillis) * this.#bytesPerSecond) / 1000;
    this.#debtBytes = this.#bytesPerSecond === 0 ? 0 : Math.max(0, this.#debtBytes - paid);
    this.#settledMillis = now;
  }
}

function checkSpeed(bytesPerSecond: number): number {
  if (Number.isFinite(bytesPerSecond) && bytesPerSecond >= 0) return bytesPerSecond;
  throw new UsageError('bad-speed', 'a speed is a number of bytes a second, 0 for no limit', {
    found: String(bytesPerSecond),
  });
}
