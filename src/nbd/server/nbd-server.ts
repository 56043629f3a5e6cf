// SPDX-License-Identifier: MIT
// Offers block devices to NBD clients: QEMU, nbdcopy, nbdfuse, the Linux kernel.

import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type Clock, REAL_CLOCK } from '../../base/clock.js';
import { InterruptedError } from '../../base/errors.js';
import { type Log, SILENT } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import { prepareTls, type TlsOptions } from '../tls-server.js';
import { BufferPool } from './buffer-pool.js';
import { Connection, type StartTls } from './connection.js';
import { FlushGate } from './flush-gate.js';
import { chooseLimits, type NbdLimits } from './limits.js';
import { MemoryBudget } from './memory-budget.js';
import { checkExports, type NbdExport } from './nbd-export.js';
import { listenOnAddress } from './tcp-listener.js';
import { listenOnPath } from './unix-listener.js';

export interface NbdServerOptions {
  readonly exports: readonly NbdExport[];
  readonly limits?: Partial<NbdLimits>;
  readonly log?: Log;
  readonly clock?: Clock;
}

const DEFAULT_GRACE_MILLIS = 10_000;

/**
 * Serves its exports on any number of sockets.
 *
 * A write is answered once the device's `write` resolved; FLUSH once its `flush` did; with FUA both. All connections
 * share the device, so that a flush on one covers writes answered on any. Devices stay the caller's.
 */
export class NbdServer {
  readonly #exports: readonly NbdExport[];
  readonly #limits: NbdLimits;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #pool = new BufferPool();
  readonly #budget: MemoryBudget;
  readonly #gates = new Map<BlockDevice, FlushGate>();
  readonly #servers = new Set<Server>();
  readonly #connections = new Set<Connection>();
  /** Those that have chosen an export. */
  readonly #clients = new Map<Connection, string>();
  #watching = false;
  #closing: Promise<void> | undefined;
  readonly #ended = new AbortController();
  #onEmpty: (() => void) | undefined;
  /** Called when a client has chosen an export and when it has left, with the number of clients there are then. */
  onClient?: (event: 'connected' | 'left', count: number, exportName: string) => void;

  constructor({ exports, limits, log = SILENT, clock = REAL_CLOCK }: NbdServerOptions) {
    checkExports(exports);
    this.#exports = exports;
    this.#limits = chooseLimits(limits);
    this.#log = log;
    this.#clock = clock;
    this.#budget = new MemoryBudget(this.#limits.bytesPerServer);
    this.#budget.onShort = () => void this.#watchStalled();
  }

  /** Connections that have chosen an export. */
  get clientCount(): number {
    return this.#clients.size;
  }

  /** Connections of any kind. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Memory that requests and replies under way hold. */
  get heldBytes(): number {
    return this.#limits.bytesPerServer - this.#budget.freeBytes;
  }

  /** Listens on a socket in the file system; see `listenOnPath`. It is removed when the server closes. */
  async listenUnix(path: string, { mode = 0o600 }: { readonly mode?: number } = {}): Promise<void> {
    await this.#open(undefined, (server) => listenOnPath(server, path, mode, this.#clock));
  }

  /** Listens on a network address; see `listenOnAddress`. With TLS nothing else is talked there. */
  async listenTcp(
    host: string,
    port: number,
    tls?: TlsOptions,
    { allowPlain = false }: { readonly allowPlain?: boolean } = {},
  ): Promise<AddressInfo> {
    const startTls = tls === undefined ? undefined : await prepareTls(tls);
    return this.#open(startTls, (server) =>
      listenOnAddress(server, host, port, { hasTls: tls !== undefined, allowPlain }),
    );
  }

  /**
   * Takes no more clients and requests, answers the requests it took, hangs up, and removes its socket files. After
   * `graceMillis` it hangs up on those that are not done; requests that their devices still work on end unheard.
   */
  close({ graceMillis = DEFAULT_GRACE_MILLIS }: { readonly graceMillis?: number } = {}): Promise<void> {
    this.#closing ??= this.#close(graceMillis);
    return this.#closing;
  }

  async #open<T>(startTls: StartTls | undefined, listen: (server: Server) => Promise<T>): Promise<T> {
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket, startTls));
    const bound = await listen(server);
    server.on('error', (error) => this.#log.warn(`NBD server: ${error.message}`));
    this.#servers.add(server);
    return bound;
  }

  #accept(socket: Socket, startTls: StartTls | undefined): void {
    if (this.#closing !== undefined || this.#connections.size >= this.#limits.connections) {
      this.#log.warn('an NBD client was turned away: there are too many');
      socket.destroy();
      return;
    }
    const connection = new Connection({
      ...{ socket, startTls, exports: this.#exports, limits: this.#limits, pool: this.#pool, budget: this.#budget },
      ...{ clock: this.#clock, log: this.#log, gateOf: (device) => this.#gateOf(device) },
      onChosen: (chosen) => this.#chosen(chosen),
      onClosed: (closed) => this.#closed(closed),
    });
    this.#connections.add(connection);
  }

  #gateOf(device: BlockDevice): FlushGate {
    const gate = this.#gates.get(device) ?? new FlushGate(device);
    this.#gates.set(device, gate);
    return gate;
  }

  #chosen(connection: Connection): void {
    const exportName = connection.exportName ?? '';
    this.#clients.set(connection, exportName);
    this.onClient?.('connected', this.#clients.size, exportName);
  }

  #closed(connection: Connection): void {
    this.#connections.delete(connection);
    const exportName = this.#clients.get(connection);
    if (this.#clients.delete(connection)) this.onClient?.('left', this.#clients.size, exportName ?? '');
    if (this.#connections.size === 0) this.#onEmpty?.();
  }

  /** While requests wait for memory, hangs up on clients that hold some and have stood still for too long. */
  async #watchStalled(): Promise<void> {
    if (this.#watching) return;
    this.#watching = true;
    const { stallMillis } = this.#limits;
    try {
      while (this.#budget.waiting > 0) {
        await this.#clock.sleep(stallMillis, this.#ended.signal);
        if (this.#budget.waiting > 0) this.#dropStalled(stallMillis);
      }
    } catch (error) {
      if (!(error instanceof InterruptedError)) throw error;
    } finally {
      this.#watching = false;
    }
  }

  #dropStalled(stallMillis: number): void {
    for (const connection of this.#connections) {
      if (connection.stalledBytes(stallMillis) > 0) connection.destroy('it stood still while others needed memory');
    }
  }

  async #close(graceMillis: number): Promise<void> {
    const stopped = [...this.#servers].map((server) => new Promise((resolve) => server.close(resolve)));
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    for (const connection of this.#connections) connection.end();
    if (this.#connections.size > 0) {
      const grace = new AbortController();
      const late = this.#clock.sleep(graceMillis, grace.signal).then(
        () => {
          for (const connection of this.#connections) connection.destroy('the server ends');
        },
        () => {},
      );
      await Promise.race([empty, late]);
      grace.abort();
      if (this.#connections.size > 0) await empty;
    }
    this.#ended.abort();
    await Promise.all(stopped);
  }
}
