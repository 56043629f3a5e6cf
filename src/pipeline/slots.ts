// SPDX-License-Identifier: MIT
// The memory that bounds the pipeline: a fixed number of slots, leased first come first served and counted by
// reference. Waiting for a slot is the back-pressure of the whole product.

import { BugError } from '../base/errors.js';
import { alignedOffset } from '../base/syscalls.js';
import { poolMemoryBytes, type SharedSlots, SLOT_ALIGNMENT, SlotMemory, slotIndexAt } from './slot-memory.js';

export interface SlotPoolOptions {
  readonly count: number;
  /** Room of a slot. A pool that takes frames needs room for a frame's raw bytes; stored bytes are never more. */
  readonly slotBytes: number;
  readonly clusterSizeBytes: number;
}

/** A lease on one slot. It is the holder's until the last reference is released; then others write into it. */
export class Slot {
  readonly pool: SlotPool;
  readonly index: number;
  /** All views of the slot; `bytes`, `ids` and `flags` are its most used. */
  readonly memory: SlotMemory;
  /** The slot's data; its address is a multiple of 4096. */
  readonly bytes: Uint8Array;
  /** After `hashSlot`: 32 bytes a cluster, all zero for a zero cluster. */
  readonly ids: Uint8Array;
  /** After `hashSlot`: one byte a cluster, 1 = all zero. */
  readonly flags: Uint8Array;
  #references = 0;

  /** @internal Slots come from `SlotPool.acquire`. */
  constructor(pool: SlotPool, index: number) {
    this.pool = pool;
    this.index = index;
    this.memory = new SlotMemory(pool.shared, index);
    this.bytes = this.memory.bytes;
    this.ids = this.memory.ids;
    this.flags = this.memory.flags;
  }

  /** One more holder. */
  retain(): void {
    if (this.#references === 0) throw new BugError(`slot ${this.index} was retained while free`);
    this.#references++;
  }

  /** One holder less; the last one gives the slot back to the pool, to whoever waits longest. */
  release(): void {
    if (this.#references === 0) throw new BugError(`slot ${this.index} was released more often than retained`);
    this.#references--;
    if (this.#references === 0) this.pool.giveBack(this);
  }

  /** @internal The pool leases it out. */
  lease(): this {
    if (this.#references !== 0) throw new BugError(`slot ${this.index} was leased while in use`);
    this.#references = 1;
    return this;
  }
}

interface Waiter {
  resolve(slot: Slot): void;
  reject(reason: unknown): void;
}

export class SlotPool {
  readonly #options: SlotPoolOptions;
  #shared: SharedSlots | undefined;
  readonly #slots: (Slot | undefined)[];
  readonly #free: number[] = [];
  readonly #waiters: Waiter[] = [];
  #failure: { readonly reason: unknown } | undefined;

  constructor(options: SlotPoolOptions) {
    const { count, slotBytes, clusterSizeBytes } = options;
    if (!(count > 0 && slotBytes > 0 && clusterSizeBytes > 0)) throw new BugError('a slot pool needs room');
    this.#options = { count, slotBytes, clusterSizeBytes };
    this.#slots = new Array<Slot | undefined>(count).fill(undefined);
    // The last used slot is the next: its pages and cache lines are warm, and memory never used is never touched.
    for (let index = count - 1; index >= 0; index--) this.#free.push(index);
  }

  /** For the workers. The memory is made on first use: a store that is opened to be listed needs none. */
  get shared(): SharedSlots {
    if (this.#shared === undefined) {
      const memory = new SharedArrayBuffer(poolMemoryBytes(this.#options));
      this.#shared = { ...this.#options, memory, firstOffsetBytes: alignedOffset(memory, SLOT_ALIGNMENT) };
    }
    return this.#shared;
  }

  get count(): number {
    return this.#options.count;
  }

  get slotBytes(): number {
    return this.#options.slotBytes;
  }

  get clusterSizeBytes(): number {
    return this.#options.clusterSizeBytes;
  }

  /** How many can be acquired without waiting. */
  get freeCount(): number {
    return this.#free.length;
  }

  /** A slot with one reference; waits for one in turn. Its content is whatever was left in it. */
  acquire(): Promise<Slot> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason);
    const slot = this.tryAcquire();
    if (slot !== undefined) return Promise.resolve(slot);
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** A slot with one reference, if one is free now and nobody waits for it. */
  tryAcquire(): Slot | undefined {
    if (this.#failure !== undefined) return undefined;
    const index = this.#free.pop();
    return index === undefined ? undefined : this.slot(index).lease();
  }

  /** The slot of an index, whoever holds it. */
  slot(index: number): Slot {
    if (!(index >= 0 && index < this.count)) throw new BugError(`there is no slot ${index}`);
    this.#slots[index] ??= new Slot(this, index);
    return this.#slots[index];
  }

  /** Which slot the bytes are the start of; undefined for foreign memory and for the middle of a slot. */
  indexOf(bytes: Uint8Array): number | undefined {
    if (bytes.buffer !== this.shared.memory || bytes.byteLength > this.slotBytes) return undefined;
    return slotIndexAt(this.shared, bytes.byteOffset);
  }

  /** Rejects all who wait for a slot, now and later: for a sink that failed and will not take more. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const waiter of this.#waiters.splice(0)) waiter.reject(reason);
  }

  /** @internal Called by the last `Slot.release`. */
  giveBack(slot: Slot): void {
    const next = this.#waiters.shift();
    if (next !== undefined) next.resolve(slot.lease());
    else this.#free.push(slot.index);
  }
}
