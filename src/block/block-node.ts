// SPDX-License-Identifier: MIT
// A place in the block graph: its users keep hold of it while the device in it is swapped and filters come and go.

import { FailedError, NotFoundError, UsageError } from '../base/errors.js';
import type { BlockDevice, BlockExtent } from './device.js';

/** A device that passes requests on to the one below it, changed or not. */
export interface FilterDevice extends BlockDevice {
  readonly below: BlockNode;
  /**
   * The filter leaves the graph: called when no request is in it and none will come, before `below` takes its place.
   * Ends what it does on its own. When it rejects, the filter stays.
   */
  detach?(): Promise<void>;
  /** Somebody waits for the requests inside: those held back on purpose go on at once until `drainEnd`. */
  drainBegin?(): void;
  drainEnd?(): void;
}

export function isFilter(device: BlockDevice): device is FilterDevice {
  return 'below' in device && device.below instanceof BlockNode;
}

export interface BlockNodeOptions {
  /** For messages; by default the device's. */
  readonly name?: string;
}

/**
 * Passes every request to its device, and can hold them back.
 *
 * While a drained section runs no request is in the device. Requests that come then wait in order; they go, once the
 * last such section has ended, to the device that is there by then. So a request sees either the old chain or the new
 * one, whole. What fails in a drained section changes nothing, and requests go on.
 *
 * Changes of the graph by `replace`, `insertFilter` and `removeFilter` go one at a time in each node.
 */
export class BlockNode implements BlockDevice {
  readonly #name: string | undefined;
  #device: BlockDevice;
  #closed = false;
  /** Requests in the device. */
  #inFlight = 0;
  /** Drained sections under way. */
  #drains = 0;
  #idleWaiters: (() => void)[] = [];
  #resumeWaiters: (() => void)[] = [];
  /** The end of the line of changes. */
  #changes: Promise<unknown> = Promise.resolve();

  constructor(device: BlockDevice, options: BlockNodeOptions = {}) {
    this.#device = device;
    this.#name = options.name;
  }

  get device(): BlockDevice {
    return this.#device;
  }

  get name(): string {
    return this.#name ?? this.#device.name;
  }

  get lengthBytes(): number {
    return this.#device.lengthBytes;
  }

  get alignmentBytes(): number {
    return this.#device.alignmentBytes;
  }

  get readOnly(): boolean {
    return this.#device.readOnly;
  }

  /** Requests in the device now; those held back do not count. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Resolves at a moment when no request is in the device; undefined if that is now. Holds nothing back. */
  whenIdle(): Promise<void> | undefined {
    if (this.#inFlight === 0) return undefined;
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    if (this.#drains > 0 || this.#closed) await this.#enterLater();
    else this.#inFlight++;
    try {
      await this.#device.read(offsetBytes, into);
    } finally {
      this.#leave();
    }
  }

  tryRead(offsetBytes: number, into: Uint8Array): boolean {
    if (this.#drains > 0 || this.#closed) return false;
    return this.#device.tryRead?.(offsetBytes, into) === true;
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    if (this.#drains > 0 || this.#closed) await this.#enterLater();
    else this.#inFlight++;
    try {
      await this.#device.write(offsetBytes, from);
    } finally {
      this.#leave();
    }
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, options?: { keepAllocated?: boolean }): Promise<void> {
    return this.#pass((device) => device.writeZeroes(offsetBytes, lengthBytes, options));
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#pass((device) => device.discard(offsetBytes, lengthBytes));
  }

  flush(): Promise<void> {
    return this.#pass((device) => device.flush());
  }

  blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return this.#pass((device) => device.blockStatus(offsetBytes, lengthBytes));
  }

  prefetch(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#pass(async (device) => device.prefetch?.(offsetBytes, lengthBytes));
  }

  /** Waits for requests in flight, then closes the device, which closes what is below it. Later requests are refused. */
  async close(): Promise<void> {
    await this.drained(async () => {
      if (this.#closed) return;
      this.#closed = true;
      await this.#device.close();
    });
  }

  /**
   * Holds new requests back, waits for those in flight, runs the action, and lets requests go on, also when the action
   * fails. Settles as the action does. Nests, and may run beside others of its kind. The action must send no request to
   * this node, nor to a node above: it would wait for itself.
   */
  async drained<T>(action: () => Promise<T> | T): Promise<T> {
    const filters = this.#chain().filter(isFilter);
    this.#drains++;
    for (const filter of filters) filter.drainBegin?.();
    try {
      await this.whenIdle();
      return await action();
    } finally {
      for (const filter of filters) filter.drainEnd?.();
      this.#drains--;
      if (this.#drains === 0) this.#resume();
    }
  }

  /** Puts another device in this place. The old one is the caller's to close. */
  replace(device: BlockDevice): Promise<void> {
    return this.#change(() => {
      this.#checkLength(device);
      this.#device = device;
    });
  }

  /**
   * Puts a filter on top of what is here: `make` gets a node that holds the present device, which it may use at once.
   * Runs drained: the filter sees every request that comes after, and none from before.
   */
  insertFilter<F extends FilterDevice>(make: (below: BlockNode) => F | Promise<F>): Promise<F> {
    return this.#change(async () => {
      const below = new BlockNode(this.#device);
      const filter = await make(below);
      if (filter.below !== below) throw new UsageError('wrong-filter', 'a filter sits on the node it was given');
      this.#checkLength(filter);
      this.#device = filter;
      return filter;
    });
  }

  /**
   * Takes a filter out, wherever it is in the chain under this node; what is below takes its place. Rejects with
   * NotFoundError where it is not in the chain, and as the filter's `detach` does; then the filter stays.
   */
  async removeFilter(filter: FilterDevice): Promise<void> {
    for (let gone = false; !gone; ) {
      const holder = this.#holderOf(filter);
      if (holder === undefined) throw noSuchFilter(filter);
      // While it waited for its turn, a filter above may have left, and with it the place that held this one.
      gone = await holder.#change(async () => this.#holderOf(filter) === holder && holder.#takeOut(filter));
    }
  }

  async #takeOut(filter: FilterDevice): Promise<true> {
    await filter.detach?.();
    // Others may hold `below` and use it: they keep what they have, and what is in flight there ends first.
    await filter.below.#change(() => {
      this.#device = filter.below.device;
    });
    return true;
  }

  /** The node of the chain, this one included, whose device is the filter. */
  #holderOf(filter: FilterDevice): BlockNode | undefined {
    for (let node: BlockNode = this; ; ) {
      const device = node.#device;
      if (device === filter) return node;
      if (device instanceof BlockNode) node = device;
      else if (isFilter(device)) node = device.below;
      else return undefined;
    }
  }

  /** The devices of the chain from here down. */
  #chain(): BlockDevice[] {
    const chain: BlockDevice[] = [];
    for (let device: BlockDevice | undefined = this.#device; device !== undefined; ) {
      chain.push(device);
      if (device instanceof BlockNode) device = device.#device;
      else device = isFilter(device) ? device.below.#device : undefined;
    }
    return chain;
  }

  /** Drains at once, then waits for its turn among the changes. */
  #change<T>(action: () => Promise<T> | T): Promise<T> {
    return this.drained(() => {
      const done = this.#changes.then(action);
      this.#changes = done.catch(() => undefined);
      return done;
    });
  }

  #checkLength(device: BlockDevice): void {
    if (device.lengthBytes === this.lengthBytes) return;
    throw new UsageError('length-differs', 'a device can be replaced only by one of the same length', {
      object: device.name,
      expected: `${this.lengthBytes} bytes`,
      found: `${device.lengthBytes} bytes`,
    });
  }

  async #pass<T>(request: (device: BlockDevice) => Promise<T>): Promise<T> {
    if (this.#drains > 0 || this.#closed) await this.#enterLater();
    else this.#inFlight++;
    try {
      return await request(this.#device);
    } finally {
      this.#leave();
    }
  }

  #leave(): void {
    this.#inFlight--;
    if (this.#inFlight > 0 || this.#idleWaiters.length === 0) return;
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }

  /** Counts the request in the same turn in which it finds no drained section: none can begin in between. */
  async #enterLater(): Promise<void> {
    while (this.#drains > 0) await new Promise<void>((resolve) => this.#resumeWaiters.push(resolve));
    if (this.#closed) throw new FailedError('device-closed', 'the device was closed', { object: this.name });
    this.#inFlight++;
  }

  #resume(): void {
    const waiters = this.#resumeWaiters;
    this.#resumeWaiters = [];
    for (const wake of waiters) wake();
  }
}

function noSuchFilter(filter: FilterDevice): NotFoundError {
  return new NotFoundError('no-such-filter', 'the filter is not in the chain', { object: filter.name });
}
