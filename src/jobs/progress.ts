// SPDX-License-Identifier: MIT
// How far a job is.

import type { Clock } from '../base/clock.js';

export interface JobProgress {
  /** Sum of the lengths of all disks. */
  readonly totalBytes: number;
  /** Handed over and accepted: `readBytes` + `zeroBytes`. */
  readonly doneBytes: number;
  readonly readBytes: number;
  /** Holes, which were not read. */
  readonly zeroBytes: number;
}

const REPORT_MILLIS = 100;

/** Counts, and reports at most ten times a second. */
export class ProgressCounter {
  #readBytes = 0;
  #zeroBytes = 0;
  #reportedMillis: number;

  constructor(
    private readonly totalBytes: number,
    private readonly clock: Clock,
    private readonly onProgress: ((progress: JobProgress) => void) | undefined,
  ) {
    this.#reportedMillis = clock.monotonicMillis();
  }

  snapshot(): JobProgress {
    return {
      totalBytes: this.totalBytes,
      doneBytes: this.#readBytes + this.#zeroBytes,
      readBytes: this.#readBytes,
      zeroBytes: this.#zeroBytes,
    };
  }

  addRead(bytes: number): void {
    this.#readBytes += bytes;
    this.#reportSometimes();
  }

  addZero(bytes: number): void {
    this.#zeroBytes += bytes;
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
