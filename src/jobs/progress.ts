// SPDX-License-Identifier: MIT
// How far a job is.

import type { Clock } from '../base/clock.js';

export interface JobProgress {
  /** All that there is to do, as far as is known: a job that follows a live device learns of more. */
  readonly totalBytes: number;
  /** Handed over and accepted: `readBytes` + `zeroBytes` + `unchangedBytes`. */
  readonly doneBytes: number;
  readonly readBytes: number;
  /** Holes, which were not read. */
  readonly zeroBytes: number;
  /** What need not be read, since it is as it was. */
  readonly unchangedBytes: number;
}

const REPORT_MILLIS = 100;

/** Counts, and reports at most ten times a second. */
export class ProgressCounter {
  #readBytes = 0;
  #zeroBytes = 0;
  #unchangedBytes = 0;
  #totalBytes: number;
  #reportedMillis: number;

  constructor(
    totalBytes: number,
    private readonly clock: Clock,
    private readonly onProgress: ((progress: JobProgress) => void) | undefined,
  ) {
    this.#totalBytes = totalBytes;
    this.#reportedMillis = clock.monotonicMillis();
  }

  snapshot(): JobProgress {
    return {
      totalBytes: this.#totalBytes,
      doneBytes: this.#readBytes + this.#zeroBytes + this.#unchangedBytes,
      readBytes: this.#readBytes,
      zeroBytes: this.#zeroBytes,
      unchangedBytes: this.#unchangedBytes,
    };
  }

  /** More to do, or, with a negative number, less. */
  addTotal(bytes: number): void {
    this.#totalBytes += bytes;
  }

  addRead(bytes: number): void {
    this.#readBytes += bytes;
    this.#reportSometimes();
  }

  addZero(bytes: number): void {
    this.#zeroBytes += bytes;
    this.#reportSometimes();
  }

  addUnchanged(bytes: number): void {
    this.#unchangedBytes += bytes;
    this.#reportSometimes();
  }

  /** Whatever the time. */
  report(): void {
    this.#reportedMillis = this.clock.monotonicMillis();
    this.onProgress?.(this.snapshot());
  }

  #reportSometimes(): void {
    if (this.onProgress && this.clock.monotonicMillis() - this.#reportedMillis >= REPORT_MILLIS) this.report();
  }
}

/** Of several jobs together. */
export function addProgress(parts: readonly JobProgress[]): JobProgress {
  const sum = (what: keyof JobProgress) => parts.reduce((total, part) => total + part[what], 0);
  return {
    totalBytes: sum('totalBytes'),
    doneBytes: sum('doneBytes'),
    readBytes: sum('readBytes'),
    zeroBytes: sum('zeroBytes'),
    unchangedBytes: sum('unchangedBytes'),
  };
}
