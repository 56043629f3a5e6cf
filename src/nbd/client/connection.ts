// SPDX-License-Identifier: MIT
// One connection to a server, from its handshake to its end: requests go out as they are given, many at a time, and
// answers come in any order.

import type { Clock } from '../../base/clock.js';
import { FailedError, InterruptedError } from '../../base/errors.js';
import { COMMAND, REQUEST_BYTES, WIRE_ERROR } from '../protocol/constants.js';
import { encodeRequest } from '../protocol/requests.js';
import { brokenProtocol, connectFailed, connectionLost, fellSilent, named, reason } from './client-errors.js';
import { ClientSocket } from './client-socket.js';
import { type Answer, type Call, Exchange } from './exchange.js';
import type { NbdAddress } from './nbd-uri.js';
import { negotiate, type Terms, type WantedBitmap } from './negotiate.js';
import { ReplyParser } from './reply-parser.js';

/** A call on its way through one connection, or one after the other. */
export interface QueuedCall {
  readonly call: Call;
  /** The owner's note of how hard it was tried in vain. */
  strikes: number;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

export interface ConnectionOptions {
  readonly bitmap: WantedBitmap | undefined;
  /** For the handshake as a whole; afterwards for each silence while an answer is due. */
  readonly timeoutMillis: number;
  readonly clock: Clock;
}

export interface ConnectionOwner {
  /** An answer came, so that there is room for another request. */
  answered(connection: Connection): void;
  /** Told once. LostConnection: the calls may be tried elsewhere. Any other error: the server is not to be used. */
  ended(connection: Connection, why: unknown, unanswered: readonly QueuedCall[]): void;
}

/** Requests and bytes of data under way in one connection: enough to keep a fast server busy. */
const MOST_REQUESTS = 64;
const MOST_BYTES = 16 << 20;
/** How many times in a time-out the watch looks. */
const LOOKS = 4;

interface Sent {
  readonly queued: QueuedCall;
  readonly exchange: Exchange;
}

export class Connection {
  readonly #uri: string;
  readonly #socket: ClientSocket;
  readonly #owner: ConnectionOwner;
  readonly #parser: ReplyParser;
  readonly #sent = new Map<number, Sent>();
  readonly #cookies = new Map<Exchange, number>();
  readonly #watch = new AbortController();
  #nextCookie = 1;
  #bytesInFlight = 0;
  /** Grows with everything that comes. */
  #received = 0;
  #hasEnded = false;

  private constructor(
    address: NbdAddress,
    readonly terms: Terms,
    socket: ClientSocket,
    owner: ConnectionOwner,
    options: ConnectionOptions,
  ) {
    this.#uri = address.uri;
    this.#socket = socket;
    this.#owner = owner;
    this.#parser = new ReplyParser(address.uri, terms.structured, {
      find: (high, low) => (high === 0 ? this.#sent.get(low)?.exchange : undefined),
      done: (exchange) => this.#done(exchange),
    });
    socket.flow(
      (bytes) => this.#take(bytes),
      (why) => this.#end(why),
    );
    void this.#watchSilence(options);
  }

  /**
   * Connects and agrees on the terms. Rejects with LostConnection when another try may do, with InterruptedError when
   * the signal aborts, else with what is wrong for good.
   */
  static async open(
    address: NbdAddress,
    owner: ConnectionOwner,
    options: ConnectionOptions,
    signal: AbortSignal,
  ): Promise<Connection> {
    const { clock, timeoutMillis, bitmap } = options;
    const limit = new AbortController();
    const stop = (): void => limit.abort();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    const over = new AbortController();
    clock.sleep(timeoutMillis, over.signal).then(stop, () => undefined);
    try {
      const socket = await ClientSocket.connect(address, limit.signal);
      limit.signal.addEventListener('abort', () => socket.destroy(new InterruptedError()), { once: true });
      try {
        const terms = await negotiate(socket, address, bitmap);
        return new Connection(address, terms, socket, owner, options);
      } catch (error) {
        socket.destroy(new InterruptedError());
        throw error;
      }
    } catch (error) {
      if (signal.aborted) throw new InterruptedError();
      if (limit.signal.aborted) throw connectFailed(address.uri, `no answer within ${timeoutMillis / 1000} seconds`);
      throw error instanceof FailedError ? named(address.uri, error) : connectFailed(address.uri, error);
    } finally {
      signal.removeEventListener('abort', stop);
      over.abort();
    }
  }

  /** The owner was told. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  get requestsInFlight(): number {
    return this.#sent.size;
  }

  hasRoomFor({ lengthBytes, into, payload }: Call): boolean {
    if (this.#hasEnded) return false;
    if (this.#sent.size === 0) return true;
    const data = into === undefined && payload === undefined ? 0 : lengthBytes;
    return this.#sent.size < MOST_REQUESTS && this.#bytesInFlight + data <= MOST_BYTES;
  }

  /** Its promise is settled by the answer, or else it is handed back to the owner. */
  send(queued: QueuedCall): void {
    const { call } = queued;
    const cookie = this.#freeCookie();
    const exchange = new Exchange(call, this.#uri, this.terms);
    this.#sent.set(cookie, { queued, exchange });
    this.#cookies.set(exchange, cookie);
    this.#bytesInFlight += dataBytes(call);
    const header = Buffer.allocUnsafe(REQUEST_BYTES);
    encodeRequest({ ...call, cookieHigh: 0, cookieLow: cookie }, header, 0);
    this.#socket.write(header);
    if (call.payload !== undefined) this.#socket.write(call.payload);
  }

  /** After 2^32 requests they begin anew; what was never answered may be under way still. */
  #freeCookie(): number {
    do this.#nextCookie = (this.#nextCookie + 1) >>> 0;
    while (this.#sent.has(this.#nextCookie));
    return this.#nextCookie;
  }

  #take(bytes: Buffer): void {
    if (this.#hasEnded) return;
    this.#received += bytes.length;
    try {
      this.#parser.feed(bytes);
    } catch (error) {
      this.#end(named(this.#uri, error));
    }
  }

  #done(exchange: Exchange): void {
    if (exchange.errorNumber === WIRE_ERROR.ESHUTDOWN) {
      throw connectionLost(this.#uri, 'the server is shutting down');
    }
    const error = exchange.end();
    const cookie = this.#cookies.get(exchange);
    const sent = cookie === undefined ? undefined : this.#sent.get(cookie);
    if (cookie === undefined || sent === undefined) throw brokenProtocol(this.#uri, 'it answers a request twice');
    this.#sent.delete(cookie);
    this.#cookies.delete(exchange);
    this.#bytesInFlight -= dataBytes(exchange.call);
    if (error === undefined) sent.queued.resolve(exchange);
    else sent.queued.reject(error);
    this.#owner.answered(this);
  }

  /** A server that takes requests and says nothing is as good as gone. */
  async #watchSilence({ clock, timeoutMillis }: ConnectionOptions): Promise<void> {
    let seen = -1;
    let quiet = 0;
    try {
      for (;;) {
        await clock.sleep(timeoutMillis / LOOKS, this.#watch.signal);
        quiet = this.#sent.size > 0 && this.#received === seen ? quiet + 1 : 0;
        seen = this.#received;
        if (quiet < LOOKS) continue;
        this.#end(fellSilent(this.#uri, timeoutMillis / 1000));
      }
    } catch (error) {
      if (!(error instanceof InterruptedError)) this.#end(connectionLost(this.#uri, reason(error)));
    }
  }

  #end(why: unknown): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#watch.abort();
    this.#socket.destroy(connectionLost(this.#uri, reason(why)));
    const unanswered = [...this.#sent.values()].map(({ queued }) => queued);
    this.#sent.clear();
    this.#cookies.clear();
    this.#owner.ended(this, why, unanswered);
  }

  /** Says goodbye. What is not answered yet is given up: its promises are the owner's to settle. */
  close(): readonly QueuedCall[] {
    if (this.#hasEnded) return [];
    this.#hasEnded = true;
    this.#watch.abort();
    const farewell = Buffer.alloc(REQUEST_BYTES);
    const nothing = { flags: 0, cookieHigh: 0, cookieLow: 0, offsetBytes: 0, lengthBytes: 0 };
    encodeRequest({ ...nothing, type: COMMAND.disconnect }, farewell, 0);
    this.#socket.write(farewell);
    this.#socket.close();
    return [...this.#sent.values()].map(({ queued }) => queued);
  }
}

function dataBytes({ into, payload }: Call): number {
  return (into ?? payload)?.byteLength ?? 0;
}
