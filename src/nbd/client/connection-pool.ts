// SPDX-License-Identifier: MIT
// The connections to one export. Calls go to the one with the least to do; what a lost connection leaves unanswered is
// sent again through another, or through a new one once the server is back.
//
// Guarantees: every call is settled, at the latest a bounded time after the server has gone; a server that comes back
// with another export, or breaks the protocol, is never asked again.

import type { Clock } from '../../base/clock.js';
import { BugError, FailedError, InterruptedError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { TRANSMISSION_FLAG } from '../protocol/constants.js';
import { connectionLost, givenUp, LostConnection, reason } from './client-errors.js';
import { Connection, type ConnectionOptions, type ConnectionOwner, type QueuedCall } from './connection.js';
import type { Answer, Call } from './exchange.js';
import type { NbdAddress } from './nbd-uri.js';
import type { Terms } from './negotiate.js';

export interface PoolOptions extends ConnectionOptions {
  readonly connections: number;
  /** How long a server that has gone is waited for. 0: not at all. */
  readonly reconnectMillis: number;
  readonly log: Log;
  readonly signal: AbortSignal | undefined;
}

const FIRST_DELAY_MILLIS = 50;
const LONGEST_DELAY_MILLIS = 2000;
/**
 * A request during which connections end again and again is taken for the cause. When a server goes its connections end
 * one by one, so that each may count; silence counts for more, as it takes a time-out each.
 */
const MOST_STRIKES = 32;
const STRIKES_OF_SILENCE = 8;

export class ConnectionPool implements ConnectionOwner {
  readonly terms: Terms;
  readonly #address: NbdAddress;
  readonly #options: PoolOptions;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  #connections: Connection[] = [];
  #waiting: QueuedCall[] = [];
  /** A connection that was lost is to be made up for soon. */
  #healing = false;
  /** More connections are being made. */
  #connecting = false;
  /** Why nothing is asked any more. */
  #final: unknown;
  /** Connections that were lost since the beginning. */
  #losses = 0;

  private constructor(address: NbdAddress, terms: Terms, options: PoolOptions) {
    this.#address = address;
    this.terms = terms;
    this.#options = options;
    this.#clock = options.clock;
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Rejects as `Connection.open` does: the first connection is tried once. */
  static async open(address: NbdAddress, options: PoolOptions): Promise<ConnectionPool> {
    let pool: ConnectionPool | undefined;
    let lost: unknown;
    const owner: ConnectionOwner = {
      answered: () => pool?.answered(),
      ended: (connection, why, unanswered) => {
        lost = why;
        pool?.ended(connection, why, unanswered);
      },
    };
    const first = await Connection.open(address, owner, options, options.signal ?? new AbortController().signal);
    pool = new ConnectionPool(address, first.terms, options);
    if (lost === undefined) pool.#connections.push(first);
    else pool.ended(first, lost, []);
    if (options.signal?.aborted) pool.#onAbort();
    void pool.#connectMore();
    return pool;
  }

  readonly #onAbort = (): void => this.#fail(new InterruptedError());

  get lossCount(): number {
    return this.#losses;
  }

  get connectionCount(): number {
    return this.#connections.length;
  }

  call(call: Call): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#final !== undefined) return reject(this.#final);
      this.#waiting.push({ call, strikes: 0, resolve, reject });
      this.#dispatch();
    });
  }

  answered(): void {
    if (this.#waiting.length > 0) this.#dispatch();
  }

  ended(connection: Connection, why: unknown, unanswered: readonly QueuedCall[]): void {
    this.#losses++;
    this.#connections = this.#connections.filter((other) => other !== connection);
    this.#waiting.unshift(...unanswered);
    if (!(why instanceof LostConnection)) {
      this.#fail(why);
      return;
    }
    this.#options.log.debug(`${this.#address.uri}: ${reason(why)}`);
    this.#giveUpHopeless(unanswered, why);
    if (this.#connections.length > 0) void this.#heal();
    else if (this.#options.reconnectMillis === 0) this.#rejectAll(givenUp(this.#address.uri, 0, why));
    if (this.#waiting.length > 0) this.#dispatch();
  }

  #giveUpHopeless(unanswered: readonly QueuedCall[], why: LostConnection): void {
    for (const queued of unanswered) queued.strikes += why.code === 'nbd-silent' ? STRIKES_OF_SILENCE : 1;
    const hopeless = unanswered.filter(({ strikes }) => strikes >= MOST_STRIKES);
    this.#waiting = this.#waiting.filter((queued) => !hopeless.includes(queued));
    for (const { reject } of hopeless) reject(givenUp(this.#address.uri, 0, why));
  }

  /** Makes up for a connection that was lost while others live; not at once, lest a server be stormed. */
  async #heal(): Promise<void> {
    if (this.#healing) return;
    this.#healing = true;
    try {
      await this.#clock.sleep(LONGEST_DELAY_MILLIS, this.#stop.signal);
      await this.#connectMore();
    } catch {
      // It was closed meanwhile.
    } finally {
      this.#healing = false;
    }
  }

  #dispatch(): void {
    let next = 0;
    for (; next < this.#waiting.length; next++) {
      const queued = this.#waiting[next]!;
      const connection = this.#leastBusy(queued.call);
      if (connection === undefined) break;
      connection.send(queued);
    }
    this.#waiting.splice(0, next);
    if (this.#waiting.length > 0 && this.#connections.length === 0) void this.#reconnect();
  }

  #leastBusy(call: Call): Connection | undefined {
    let best: Connection | undefined;
    for (const connection of this.#connections) {
      if (!connection.hasRoomFor(call)) continue;
      if (best === undefined || connection.requestsInFlight < best.requestsInFlight) best = connection;
    }
    return best;
  }

  /** Beyond the first, where the server keeps several in step. A server that has no room for them does without. */
  async #connectMore(): Promise<void> {
    const allowed = (this.terms.flags & TRANSMISSION_FLAG.canMultiConn) !== 0;
    if (!allowed || this.#connecting) return;
    this.#connecting = true;
    try {
      while (this.#final === undefined && this.#connections.length < this.#options.connections) await this.#addOne();
    } catch (error) {
      if (!(error instanceof LostConnection)) this.#fail(error);
      this.#options.log.debug(`${this.#address.uri}: ${this.#connections.length} connections: ${reason(error)}`);
    } finally {
      this.#connecting = false;
      if (this.#final === undefined) this.#dispatch();
    }
  }

  async #addOne(): Promise<void> {
    const connection = await Connection.open(this.#address, this, this.#options, this.#stop.signal);
    if (this.#final !== undefined) {
      connection.close();
      return;
    }
    if (connection.hasEnded) throw connectionLost(this.#address.uri, 'it ended as soon as it was made');
    try {
      this.#checkSame(connection.terms);
    } catch (error) {
      connection.close();
      throw error;
    }
    this.#connections.push(connection);
    this.#dispatch();
  }

  /** Until there is a connection again, or the time is over. */
  async #reconnect(): Promise<void> {
    if (this.#connecting) return;
    this.#connecting = true;
    const { log, reconnectMillis } = this.#options;
    const { uri } = this.#address;
    const end = this.#clock.monotonicMillis() + reconnectMillis;
    if (reconnectMillis > 0)
      log.info(`${uri}: the connection was lost; trying for ${reconnectMillis / 1000} seconds to get it back`);
    let last: unknown;
    try {
      for (let delay = FIRST_DELAY_MILLIS; this.#connections.length === 0; delay *= 2) {
        last = await this.#tryOnce();
        if (last === undefined) continue;
        const left = end - this.#clock.monotonicMillis();
        if (left <= 0) throw givenUp(uri, reconnectMillis / 1000, last);
        await this.#clock.sleep(Math.min(delay, LONGEST_DELAY_MILLIS, left), this.#stop.signal);
      }
      log.info(`${uri}: connected again`);
    } catch (error) {
      // Another time it may be back: whoever asks then waits again.
      if (error instanceof FailedError && error.code === 'nbd-lost') this.#rejectAll(error);
      else this.#fail(error);
    } finally {
      this.#connecting = false;
    }
    await this.#connectMore();
  }

  /** What went wrong, where another try may do. */
  async #tryOnce(): Promise<unknown> {
    try {
      await this.#addOne();
      return undefined;
    } catch (error) {
      const isEarly = error instanceof FailedError && EARLY.has(error.code);
      if (error instanceof LostConnection || isEarly) return error;
      throw error;
    }
  }

  #checkSame(now: Terms): void {
    const then = this.terms;
    const lost = then.flags & ~now.flags & LASTING_FLAGS;
    const sameContexts = Object.keys(then.contexts).every((kind) => kind in now.contexts);
    const sameBlocks =
      now.blockSize.leastBytes <= then.blockSize.leastBytes && now.blockSize.mostBytes >= then.blockSize.mostBytes;
    const becameReadOnly = (now.flags & ~then.flags & TRANSMISSION_FLAG.readOnly) !== 0;
    if (now.sizeBytes === then.sizeBytes && lost === 0 && sameContexts && sameBlocks && !becameReadOnly) return;
    throw new FailedError('nbd-changed', 'the NBD server came back with another export than before', {
      object: this.#address.uri,
      expected: `${then.sizeBytes} bytes`,
      found: now.sizeBytes === then.sizeBytes ? 'the same size, but other abilities' : `${now.sizeBytes} bytes`,
      advice: 'Start again, and let nothing change the export meanwhile.',
    });
  }

  #fail(error: unknown): void {
    if (this.#final !== undefined) return;
    this.#final = error ?? new BugError('an NBD connection failed without a reason');
    this.#stop.abort();
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    for (const connection of this.#connections) this.#waiting.push(...connection.close());
    this.#connections = [];
    this.#rejectAll(this.#final);
  }

  #rejectAll(error: unknown): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { reject } of waiting) reject(error);
  }

  close(): void {
    this.#fail(new FailedError('device-closed', 'the device was closed', { object: this.#address.uri }));
  }
}

/** A server that has just started may not have its exports yet. */
const EARLY: ReadonlySet<string> = new Set(['no-such-export', 'nbd-refused', 'no-bitmap']);

const LASTING_FLAGS =
  TRANSMISSION_FLAG.sendFlush |
  TRANSMISSION_FLAG.sendTrim |
  TRANSMISSION_FLAG.sendWriteZeroes |
  TRANSMISSION_FLAG.canMultiConn;
