// SPDX-License-Identifier: MIT
// Memory for payloads, used again: fresh pages from the kernel would cost more than filling them.

const LEAST_SHIFT = 12;
const MOST_SHIFT = 25;

export class BufferPool {
  readonly #free: Buffer[][] = Array.from({ length: MOST_SHIFT - LEAST_SHIFT + 1 }, () => []);
  readonly #mostIdleBytes: number;
  #idleBytes = 0;

  constructor(mostIdleBytes = 64 << 20) {
    this.#mostIdleBytes = mostIdleBytes;
  }

  /** At least so many bytes of unknown content. */
  take(lengthBytes: number): Buffer {
    const shift = Math.max(LEAST_SHIFT, 32 - Math.clz32(lengthBytes - 1));
    if (shift > MOST_SHIFT) return Buffer.allocUnsafeSlow(lengthBytes);
    const buffer = this.#free[shift - LEAST_SHIFT]?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(2 ** shift);
    this.#idleBytes -= buffer.length;
    return buffer;
  }

  /** Takes back what `take` gave. Nobody may look at it any more. */
  give(buffer: Buffer): void {
    const shift = 31 - Math.clz32(buffer.length);
    const line = this.#free[shift - LEAST_SHIFT];
    if (line === undefined || buffer.length !== 2 ** shift) return;
    if (this.#idleBytes + buffer.length > this.#mostIdleBytes) return;
    this.#idleBytes += buffer.length;
    line.push(buffer);
  }
}
