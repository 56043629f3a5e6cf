// SPDX-License-Identifier: MIT
// At most n at a time.

/** Lets at most a fixed number of tasks run at once; the others wait, first come first served. */
export class Limiter {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param most at least 1 */
  constructor(most: number) {
    this.#free = most;
  }

  /** Runs the task when there is room; settles as it does. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    await this.enter();
    try {
      return await task();
    } finally {
      this.leave();
    }
  }

  /** Takes a place, waiting for one if need be. Each resolved `enter` is paired with one `leave`. */
  enter(): Promise<void> | undefined {
    if (this.#free > 0) {
      this.#free--;
      return undefined;
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Gives a place back, to whoever waits longest. */
  leave(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free++;
  }
}
