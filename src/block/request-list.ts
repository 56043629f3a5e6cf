// SPDX-License-Identifier: MIT
// The requests in flight of a device, a filter or a job: what overlaps is serialised, first come, first served. Others
// that read the same device take part by `waitForOverlapping`, or by `begin` and `end`.

/** A range that is the holder's until `end`. */
export interface TrackedRequest {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Lets those that wait for it go on. Calling it again does nothing. */
  end(): void;
}

/**
 * A request waits for all earlier ones that overlap it, begun or waiting, and for no later one: nobody starves, and
 * requests that do not overlap never wait for each other. An empty range overlaps nothing.
 *
 * A plain array is walked once for each request: a few hundred pairs of numbers are compared faster than a sorted
 * structure is kept up. Who waits for whom is noted then, so that the end of a request costs only those that it wakes.
 */
export class RequestList {
  readonly #requests: Request[] = [];
  #drainWaiters: (() => void)[] = [];

  /** Requests begun or waiting. */
  get size(): number {
    return this.#requests.length;
  }

  /** Takes the range, at once where it is free, else when all earlier requests that overlap it have ended. */
  begin(offsetBytes: number, lengthBytes: number): TrackedRequest | Promise<TrackedRequest> {
    const request = new Request(offsetBytes, lengthBytes, this.#remove);
    const waiting = this.#waitFor(offsetBytes, lengthBytes, request);
    this.#add(request);
    return waiting ?? request;
  }

  /** Takes the range if nobody holds or awaits any of it. */
  tryBegin(offsetBytes: number, lengthBytes: number): TrackedRequest | undefined {
    if (this.overlaps(offsetBytes, lengthBytes)) return undefined;
    const request = new Request(offsetBytes, lengthBytes, this.#remove);
    this.#add(request);
    return request;
  }

  /** Resolves when the requests of now that overlap the range have ended; undefined if there are none. Takes nothing. */
  waitForOverlapping(offsetBytes: number, lengthBytes: number): Promise<void> | undefined {
    return this.#waitFor(offsetBytes, lengthBytes, undefined);
  }

  overlaps(offsetBytes: number, lengthBytes: number): boolean {
    const endBytes = offsetBytes + lengthBytes;
    return lengthBytes > 0 && this.#requests.some((other) => overlap(other, offsetBytes, endBytes));
  }

  /** Resolves at a moment when there are no requests. */
  drained(): Promise<void> {
    if (this.#requests.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#drainWaiters.push(resolve));
  }

  #waitFor<T>(offsetBytes: number, lengthBytes: number, result: T): Promise<T> | undefined {
    if (lengthBytes === 0) return undefined;
    const endBytes = offsetBytes + lengthBytes;
    let earlier: Request[] | undefined;
    for (const other of this.#requests) {
      if (!overlap(other, offsetBytes, endBytes)) continue;
      earlier ??= [];
      earlier.push(other);
    }
    if (earlier === undefined) return undefined;
    const waitsFor = earlier;
    return new Promise((resolve) => {
      let left = waitsFor.length;
      const wake = () => {
        left--;
        if (left === 0) resolve(result);
      };
      for (const other of waitsFor) other.waiters.push(wake);
    });
  }

  #add(request: Request): void {
    request.place = this.#requests.length;
    this.#requests.push(request);
  }

  /** The last one takes its place: order is of no matter, since waiters know whom they wait for. */
  readonly #remove = (request: Request): void => {
    const last = this.#requests.pop();
    if (last !== undefined && last !== request) {
      last.place = request.place;
      this.#requests[last.place] = last;
    }
    for (const wake of request.waiters) wake();
    if (this.#requests.length > 0 || this.#drainWaiters.length === 0) return;
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const wake of waiters) wake();
  };
}

class Request implements TrackedRequest {
  readonly endBytes: number;
  readonly waiters: (() => void)[] = [];
  /** Its index in the list; -1 after its end. */
  place = -1;

  constructor(
    readonly offsetBytes: number,
    readonly lengthBytes: number,
    readonly remove: (request: Request) => void,
  ) {
    this.endBytes = offsetBytes + lengthBytes;
  }

  end(): void {
    if (this.place < 0) return;
    this.remove(this);
    this.place = -1;
  }
}

function overlap(request: Request, offsetBytes: number, endBytes: number): boolean {
  return request.offsetBytes < endBytes && offsetBytes < request.endBytes;
}
