// SPDX-License-Identifier: MIT
// How fast something goes now, and how long the rest will take.

const WINDOW_MILLIS = 10_000;
const SAMPLE_MILLIS = 250;

interface Sample {
  readonly millis: number;
  readonly bytes: number;
}

export class RateMeter {
  readonly #samples: Sample[];

  constructor(nowMillis: number) {
    this.#samples = [{ millis: nowMillis, bytes: 0 }];
  }

  /** @param bytes done in all */
  note(nowMillis: number, bytes: number): void {
    if (nowMillis - this.#samples.at(-1)!.millis < SAMPLE_MILLIS) return;
    this.#samples.push({ millis: nowMillis, bytes });
    while (this.#samples.length > 2 && this.#samples[1]!.millis < nowMillis - WINDOW_MILLIS) this.#samples.shift();
  }

  /** Bytes a second over the last ten seconds. */
  rate(nowMillis: number, bytes: number): number {
    const oldest = this.#samples[0]!;
    const seconds = (nowMillis - oldest.millis) / 1000;
    return seconds > 0 ? (bytes - oldest.bytes) / seconds : 0;
  }
}
