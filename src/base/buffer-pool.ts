// SPDX-License-Identifier: MIT
// A fixed number of buffers, leased first come first served: the back-pressure of the sink.

export class BufferPool {
  readonly slotBytes: number;
  readonly #free: Uint8Array[] = [];
  #unmade: number;
  readonly #leased = new Map<ArrayBufferLike, Uint8Array>();
  #waiters: { resolve(slot: Uint8Array): void; reject(reason: unknown): void }[] = [];
  #failure: { readonly reason: unknown } | undefined;

  constructor(count: number, slotBytes: number) {
    this.slotBytes = slotBytes;
    this.#unmade = count;
  }

  lease(): Promise<Uint8Array> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason);
    const slot = this.#free.pop() ?? this.#make();
    if (slot === undefined) return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
    this.#leased.set(slot.buffer, slot);
    return Promise.resolve(slot);
  }

  #make(): Uint8Array | undefined {
    if (this.#unmade === 0) return undefined;
    this.#unmade--;
    return new Uint8Array(this.slotBytes);
  }

  isLeased(bytes: Uint8Array): boolean {
    return this.#leased.has(bytes.buffer);
  }

  /** Gives back the slot that the bytes are a part of; no effect for foreign memory. */
  release(bytes: Uint8Array): void {
    const slot = this.#leased.get(bytes.buffer);
    if (slot === undefined) return;
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter.resolve(slot);
      return;
    }
    this.#leased.delete(bytes.buffer);
    this.#free.push(slot);
  }

  /** Rejects who waits, now and later. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const waiter of this.#waiters.splice(0)) waiter.reject(reason);
  }
}
