// SPDX-License-Identifier: MIT
// How much memory all requests together may hold. Whoever finds none waits in line; nobody is passed over, so that a
// large request gets its turn.

interface Waiter {
  readonly lengthBytes: number;
  readonly granted: () => void;
}

export class MemoryBudget {
  #freeBytes: number;
  readonly #line: Waiter[] = [];
  /** Called when the first one begins to wait. */
  onShort?: () => void;

  constructor(totalBytes: number) {
    this.#freeBytes = totalBytes;
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#line.length;
  }

  /** False: there is not enough, or others wait for it. */
  tryTake(lengthBytes: number): boolean {
    if (this.#line.length > 0 || lengthBytes > this.#freeBytes) return false;
    this.#freeBytes -= lengthBytes;
    return true;
  }

  /** Calls `granted` once the memory is taken. The answer leaves the line; not to be called after that. */
  wait(lengthBytes: number, granted: () => void): () => void {
    const waiter: Waiter = { lengthBytes, granted };
    this.#line.push(waiter);
    if (this.#line.length === 1) this.onShort?.();
    return () => {
      this.#line.splice(this.#line.indexOf(waiter), 1);
      this.#serve();
    };
  }

  give(lengthBytes: number): void {
    this.#freeBytes += lengthBytes;
    this.#serve();
  }

  #serve(): void {
    for (let head = this.#line[0]; head !== undefined && head.lengthBytes <= this.#freeBytes; head = this.#line[0]) {
      this.#line.shift();
      this.#freeBytes -= head.lengthBytes;
      head.granted();
    }
  }
}
