// SPDX-License-Identifier: MIT
// Faults on demand: a filter that fails, delays or corrupts what its rules say, and passes the rest on unchanged.

import { type Clock, REAL_CLOCK } from '../../base/clock.js';
import { FailedError, UsageError } from '../../base/errors.js';
import type { BlockNode } from '../block-node.js';
import type { BlockExtent } from '../device.js';
import { checkRange } from '../range.js';
import { PassThrough } from './pass-through.js';

export type FaultOperation = 'read' | 'write' | 'write-zeroes' | 'discard' | 'flush' | 'block-status';

/**
 * - `error`: the request fails, by default with FailedError `injected-fault`; `before` it reached the device (default),
 *   `midway`, when its first half was done (writes and zeros only), or `after` all of it was done;
 * - `delay`: it goes on that much later; `hold`: when the promise has resolved;
 * - `corrupt`: the first byte of a read or write that lies in the rule's range comes out inverted.
 */
export type FaultEffect =
  | { readonly kind: 'error'; readonly error?: unknown; readonly when?: 'before' | 'midway' | 'after' }
  | { readonly kind: 'delay'; readonly millis: number }
  | { readonly kind: 'hold'; readonly until: Promise<unknown> }
  | { readonly kind: 'corrupt' };

export interface FaultRule {
  /** One or several; any by default. */
  readonly operation?: FaultOperation | readonly FaultOperation[];
  /** Requests that touch it; everywhere by default. With a range, flushes do not match. */
  readonly range?: { readonly offsetBytes: number; readonly lengthBytes: number };
  /** How many requests that match pass unharmed first; 0 by default. */
  readonly after?: number;
  /** How many after them are hit; all by default. */
  readonly times?: number;
  readonly effect: FaultEffect;
}

export interface ActiveFault {
  /** How many requests matched, hit or not. */
  readonly matches: number;
  /** How many requests it hit. */
  readonly hits: number;
  /** Requests that come later are spared. */
  remove(): void;
}

export interface FaultOptions {
  readonly rules?: readonly FaultRule[];
  readonly clock?: Clock;
}

/**
 * Rules are looked at in the order in which they were added, as each request comes. All that match take effect, in
 * order; of several errors the first counts. Nothing is left to chance: the same requests in the same order meet the
 * same faults.
 */
export class FaultFilter extends PassThrough {
  readonly #clock: Clock;
  readonly #faults: Fault[] = [];

  constructor(below: BlockNode, options: FaultOptions = {}) {
    super(below);
    this.#clock = options.clock ?? REAL_CLOCK;
    for (const rule of options.rules ?? []) this.add(rule);
  }

  add(rule: FaultRule): ActiveFault {
    const fault = new Fault(rule, () => {
      const at = this.#faults.indexOf(fault);
      if (at >= 0) this.#faults.splice(at, 1);
    });
    this.#faults.push(fault);
    return fault;
  }

  /** Takes all rules away. */
  clear(): void {
    this.#faults.length = 0;
  }

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    const hits = this.#hits('read', offsetBytes, into.byteLength);
    if (hits.length === 0) return this.below.read(offsetBytes, into);
    await this.#before(hits, offsetBytes);
    await this.below.read(offsetBytes, into);
    for (const at of corruptions(hits, offsetBytes)) into[at] = ~into[at]! & 0xff;
    this.#fail(hits, 'after', offsetBytes);
  }

  override async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, from.byteLength);
    const hits = this.#hits('write', offsetBytes, from.byteLength);
    if (hits.length === 0) return this.below.write(offsetBytes, from);
    await this.#before(hits, offsetBytes);
    const wrong = corruptions(hits, offsetBytes);
    const bytes = wrong.length === 0 ? from : new Uint8Array(from);
    for (const at of wrong) bytes[at] = ~bytes[at]! & 0xff;
    if (fails(hits, 'midway')) await this.below.write(offsetBytes, bytes.subarray(0, bytes.byteLength >> 1));
    this.#fail(hits, 'midway', offsetBytes);
    await this.below.write(offsetBytes, bytes);
    this.#fail(hits, 'after', offsetBytes);
  }

  override async writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    options?: { keepAllocated?: boolean },
  ): Promise<void> {
    checkRange(this, offsetBytes, lengthBytes);
    const hits = this.#hits('write-zeroes', offsetBytes, lengthBytes);
    await this.#before(hits, offsetBytes);
    if (fails(hits, 'midway')) await this.below.writeZeroes(offsetBytes, Math.floor(lengthBytes / 2), options);
    this.#fail(hits, 'midway', offsetBytes);
    await this.below.writeZeroes(offsetBytes, lengthBytes, options);
    this.#fail(hits, 'after', offsetBytes);
  }

  override discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#around('discard', offsetBytes, lengthBytes, () => this.below.discard(offsetBytes, lengthBytes));
  }

  override flush(): Promise<void> {
    return this.#around('flush', undefined, 0, () => this.below.flush());
  }

  override blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return this.#around('block-status', offsetBytes, lengthBytes, () =>
      this.below.blockStatus(offsetBytes, lengthBytes),
    );
  }

  async #around<T>(
    operation: FaultOperation,
    offsetBytes: number | undefined,
    lengthBytes: number,
    request: () => Promise<T>,
  ): Promise<T> {
    if (offsetBytes !== undefined) checkRange(this, offsetBytes, lengthBytes);
    const hits = this.#hits(operation, offsetBytes, lengthBytes);
    await this.#before(hits, offsetBytes);
    const result = await request();
    this.#fail(hits, 'after', offsetBytes);
    return result;
  }

  /** The rules that hit this request; counts it in all that it matches. */
  #hits(operation: FaultOperation, offsetBytes: number | undefined, lengthBytes: number): FaultRule[] {
    const faults = this.#faults.filter((fault) => fault.strikes(operation, offsetBytes, lengthBytes));
    return faults.map((fault) => fault.rule);
  }

  async #before(hits: readonly FaultRule[], offsetBytes: number | undefined): Promise<void> {
    for (const { effect } of hits) {
      if (effect.kind === 'delay') await this.#clock.sleep(effect.millis);
      if (effect.kind === 'hold') await effect.until;
    }
    this.#fail(hits, 'before', offsetBytes);
  }

  #fail(hits: readonly FaultRule[], when: 'before' | 'midway' | 'after', offsetBytes: number | undefined): void {
    for (const { effect } of hits) {
      if (effect.kind !== 'error' || (effect.when ?? 'before') !== when) continue;
      throw effect.error ?? this.#injected(offsetBytes);
    }
  }

  #injected(offsetBytes: number | undefined): FailedError {
    const place = offsetBytes === undefined ? {} : { offsetBytes };
    return new FailedError('injected-fault', 'a fault was injected', { object: this.name, ...place });
  }
}

class Fault implements ActiveFault {
  matches = 0;
  hits = 0;
  readonly #operations: readonly FaultOperation[] | undefined;

  constructor(
    readonly rule: FaultRule,
    readonly remove: () => void,
  ) {
    const { operation, effect } = rule;
    this.#operations = typeof operation === 'string' ? [operation] : operation;
    const fit = EFFECT_OPERATIONS[effect.kind === 'error' && effect.when === 'midway' ? 'midway' : effect.kind];
    if (fit !== undefined && (this.#operations === undefined || !this.#operations.every((one) => fit.includes(one)))) {
      throw new UsageError('bad-fault', `a fault of this kind has to name operations of ${fit.join(', ')}`);
    }
  }

  strikes(operation: FaultOperation, offsetBytes: number | undefined, lengthBytes: number): boolean {
    if (this.#operations !== undefined && !this.#operations.includes(operation)) return false;
    if (!touches(this.rule, offsetBytes, lengthBytes)) return false;
    this.matches++;
    if (this.matches <= (this.rule.after ?? 0) || this.hits >= (this.rule.times ?? Number.POSITIVE_INFINITY)) {
      return false;
    }
    this.hits++;
    return true;
  }
}

/** Effects that not every operation can have. */
const EFFECT_OPERATIONS: Readonly<Record<string, readonly FaultOperation[]>> = {
  corrupt: ['read', 'write'],
  midway: ['write', 'write-zeroes'],
};

function touches({ range }: FaultRule, offsetBytes: number | undefined, lengthBytes: number): boolean {
  if (range === undefined) return true;
  if (offsetBytes === undefined) return false;
  return offsetBytes < range.offsetBytes + range.lengthBytes && range.offsetBytes < offsetBytes + lengthBytes;
}

function fails(hits: readonly FaultRule[], when: 'midway'): boolean {
  return hits.some(({ effect }) => effect.kind === 'error' && effect.when === when);
}

/** Indexes in the request's bytes that come out inverted. */
function corruptions(hits: readonly FaultRule[], offsetBytes: number): number[] {
  const corrupting = hits.filter(({ effect }) => effect.kind === 'corrupt');
  return corrupting.map(({ range }) => Math.max(0, (range?.offsetBytes ?? 0) - offsetBytes));
}
