// SPDX-License-Identifier: MIT
// A filter that holds requests back so that bytes and requests a second stay within limits.

import type { Clock } from '../../base/clock.js';
import { UsageError } from '../../base/errors.js';
import type { BlockNode } from '../block-node.js';
import { checkRange, checkWritable } from '../range.js';
import { RateBuckets, type ThrottleRate } from './leaky-bucket.js';
import { PassThrough } from './pass-through.js';

export type { ThrottleRate } from './leaky-bucket.js';

/** A limit of both directions together, or one of each. */
export type ThrottlePair =
  | { readonly total: ThrottleRate }
  | { readonly read?: ThrottleRate; readonly write?: ThrottleRate };

export interface ThrottleLimits {
  /** Of reads and writes; zeros, discards and flushes move none. */
  readonly bytes?: ThrottlePair;
  /** Of reads, writes, zeros and discards. */
  readonly operations?: ThrottlePair;
  /** A larger request counts as several; each is one by default. */
  readonly operationBytes?: number;
}

type Direction = 'read' | 'write';

interface Waiter {
  readonly bytes: number;
  readonly operations: number;
  readonly go: () => void;
}

/**
 * Requests of one direction go in the order in which they came. While somebody drains a node above, requests held back
 * go at once and count for nothing, so that a drained section begins without delay.
 */
export class ThrottleFilter extends PassThrough {
  readonly #clock: Clock;
  #limits: ThrottleLimits = {};
  #bytes: Partial<Record<Direction, RateBuckets>> = {};
  #operations: Partial<Record<Direction, RateBuckets>> = {};
  readonly #lines: Record<Direction, Waiter[]> = { read: [], write: [] };
  /** Ends the sleep of a line under way. */
  readonly #wakers: Partial<Record<Direction, AbortController>> = {};
  /** Drained sections above. */
  #drains = 0;

  constructor(below: BlockNode, options: { readonly limits: ThrottleLimits; readonly clock: Clock }) {
    super(below);
    this.#clock = options.clock;
    this.setLimits(options.limits);
  }

  get limits(): ThrottleLimits {
    return this.#limits;
  }

  /** Requests held back now. */
  get waiting(): number {
    return this.#lines.read.length + this.#lines.write.length;
  }

  /** Takes effect at once, for those who wait too. All bursts begin anew. Throws UsageError for rates that make no sense. */
  setLimits(limits: ThrottleLimits): void {
    const { operationBytes } = limits;
    if (operationBytes !== undefined && !(operationBytes > 0)) {
      throw new UsageError('bad-rate', 'the size of an operation is above 0', { found: String(operationBytes) });
    }
    const now = this.#clock.monotonicMillis();
    const [bytes, operations] = [makeBuckets(limits.bytes, now), makeBuckets(limits.operations, now)];
    this.#limits = limits;
    this.#bytes = bytes;
    this.#operations = operations;
    this.#wake();
  }

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    await this.#admit('read', into.byteLength);
    await this.below.read(offsetBytes, into);
  }

  override async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, from.byteLength);
    await this.#admit('write', from.byteLength);
    await this.below.write(offsetBytes, from);
  }

  override async writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    options?: { keepAllocated?: boolean },
  ): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    await this.#admit('write', 0);
    await this.below.writeZeroes(offsetBytes, lengthBytes, options);
  }

  override async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    await this.#admit('write', 0);
    await this.below.discard(offsetBytes, lengthBytes);
  }

  drainBegin(): void {
    this.#drains++;
    this.#wake();
  }

  drainEnd(): void {
    this.#drains--;
  }

  #admit(direction: Direction, bytes: number): Promise<void> | undefined {
    if (this.#drains > 0) return undefined;
    const operations = Math.max(1, Math.ceil(bytes / (this.#limits.operationBytes ?? Number.POSITIVE_INFINITY)));
    const line = this.#lines[direction];
    if (line.length === 0 && this.#waitMillis(direction) === 0) {
      this.#count(direction, bytes, operations);
      return undefined;
    }
    return new Promise((go) => {
      line.push({ bytes, operations, go });
      if (line.length === 1) void this.#serve(direction);
    });
  }

  /** Lets the line go, one by one, until it is empty. */
  async #serve(direction: Direction): Promise<void> {
    const line = this.#lines[direction];
    for (let next = line[0]; next !== undefined; next = line[0]) {
      const wait = this.#drains > 0 ? 0 : this.#waitMillis(direction);
      if (wait > 0) {
        await this.#sleep(direction, wait);
        continue;
      }
      if (this.#drains === 0) this.#count(direction, next.bytes, next.operations);
      line.shift();
      next.go();
    }
  }

  /** Shorter when limits change or somebody drains. */
  async #sleep(direction: Direction, millis: number): Promise<void> {
    const waker = new AbortController();
    this.#wakers[direction] = waker;
    try {
      await this.#clock.sleep(Math.ceil(millis), waker.signal);
    } catch (error) {
      if (!waker.signal.aborted) throw error;
    }
  }

  #wake(): void {
    this.#wakers.read?.abort();
    this.#wakers.write?.abort();
  }

  #waitMillis(direction: Direction): number {
    const now = this.#clock.monotonicMillis();
    const bytes = this.#bytes[direction]?.waitMillis(now) ?? 0;
    return Math.max(bytes, this.#operations[direction]?.waitMillis(now) ?? 0);
  }

  #count(direction: Direction, bytes: number, operations: number): void {
    this.#bytes[direction]?.admit(bytes);
    this.#operations[direction]?.admit(operations);
  }
}

function makeBuckets(pair: ThrottlePair | undefined, nowMillis: number): Partial<Record<Direction, RateBuckets>> {
  if (pair === undefined) return {};
  if ('total' in pair) {
    const total = new RateBuckets(pair.total, nowMillis);
    return { read: total, write: total };
  }
  return {
    ...(pair.read && { read: new RateBuckets(pair.read, nowMillis) }),
    ...(pair.write && { write: new RateBuckets(pair.write, nowMillis) }),
  };
}
