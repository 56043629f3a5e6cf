// SPDX-License-Identifier: MIT
// A rate with bursts, as leaky buckets: what is admitted is poured in, time lets it out at the bottom.

import { UsageError } from '../../base/errors.js';

export interface ThrottleRate {
  readonly perSecond: number;
  /** What it may rise to for `burstSeconds`; above `perSecond`. */
  readonly burstPerSecond?: number;
  /** 1 by default. */
  readonly burstSeconds?: number;
}

/** How much of a second's worth may pass at one moment. */
const SLICE_SECONDS = 0.1;

/**
 * Keeps the mean at `perSecond`. After a quiet time `burstPerSecond` is let through for `burstSeconds`; the bucket that
 * this fills leaks at `perSecond`, so that the next burst has to be saved up for. One admission may be larger than any
 * bucket; those after it wait the longer.
 */
export class RateBuckets {
  readonly #buckets: Bucket[];

  constructor(rate: ThrottleRate, nowMillis: number) {
    const { perSecond, burstPerSecond, burstSeconds = 1 } = rate;
    const isBurst = burstPerSecond !== undefined;
    if (!(perSecond > 0) || (isBurst && !(burstPerSecond > perSecond && burstSeconds > 0))) {
      throw new UsageError(
        'bad-rate',
        'a rate is above 0, its burst above the rate, its burst length above 0 seconds',
        {
          found: JSON.stringify(rate),
        },
      );
    }
    this.#buckets = isBurst
      ? [
          new Bucket(perSecond, (burstPerSecond - perSecond) * burstSeconds, nowMillis),
          new Bucket(burstPerSecond, burstPerSecond * SLICE_SECONDS, nowMillis),
        ]
      : [new Bucket(perSecond, perSecond * SLICE_SECONDS, nowMillis)];
  }

  /** How long until something may be admitted; 0: now. */
  waitMillis(nowMillis: number): number {
    return Math.max(...this.#buckets.map((bucket) => bucket.waitMillis(nowMillis)));
  }

  admit(amount: number): void {
    for (const bucket of this.#buckets) bucket.level += amount;
  }
}

class Bucket {
  level = 0;

  constructor(
    readonly leakPerSecond: number,
    readonly capacity: number,
    public leakedMillis: number,
  ) {}

  waitMillis(nowMillis: number): number {
    const leaked = ((nowMillis - this.leakedMillis) * this.leakPerSecond) / 1000;
    this.level = Math.max(0, this.level - leaked);
    this.leakedMillis = nowMillis;
    return this.level <= this.capacity ? 0 : ((this.level - this.capacity) * 1000) / this.leakPerSecond;
  }
}
