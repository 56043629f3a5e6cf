// SPDX-License-Identifier: MIT
// The memory of a mirror: so many buffers of one size, and no more.

/** What is in flight never exceeds `bufferBytes` × `most`. Buffers are made when they are first needed, and kept. */
export class MirrorBuffers {
  readonly #idle: Uint8Array[] = [];
  readonly #waiting: ((buffer: Uint8Array) => void)[] = [];
  #made = 0;

  constructor(
    readonly bufferBytes: number,
    readonly most: number,
  ) {}

  /** True if `take` would not wait. */
  get isFree(): boolean {
    return this.#idle.length > 0 || this.#made < this.most;
  }

  /** Whoever holds one waits for nothing but its own reads and writes, so that all come to their turn. */
  take(): Uint8Array | Promise<Uint8Array> {
    const idle = this.#idle.pop();
    if (idle) return idle;
    if (this.#made < this.most) {
      this.#made++;
      return new Uint8Array(this.bufferBytes);
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  give(buffer: Uint8Array): void {
    const next = this.#waiting.shift();
    if (next) next(buffer);
    else this.#idle.push(buffer);
  }
}
