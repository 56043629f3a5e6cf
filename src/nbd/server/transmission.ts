// SPDX-License-Identifier: MIT
// One client's requests, carried out at once, as many as arrive, and answered as they are done.

import type { Duplex } from 'node:stream';
import type { BlockDevice } from '../../block/device.js';
import { encodeStatusChunk } from '../protocol/chunks.js';
import { COMMAND, COMMAND_FLAG, STATUS_EXTENT_BYTES } from '../protocol/constants.js';
import type { NbdRequest } from '../protocol/requests.js';
import { wireErrorOf } from '../protocol/wire-errors.js';
import { Admission } from './admission.js';
import { statusExtents } from './block-status.js';
import type { BufferPool } from './buffer-pool.js';
import { perform, refusal } from './commands.js';
import type { FlushGate } from './flush-gate.js';
import type { NbdLimits } from './limits.js';
import type { MemoryBudget } from './memory-budget.js';
import type { Agreement } from './negotiation.js';
import { Replies } from './replies.js';
import { ReplyWriter } from './reply-writer.js';
import { type IntakeHandler, RequestIntake } from './request-intake.js';

/** Reads up to this size are tried without waiting, where the device can: they hold the main thread for microseconds. */
const MOST_TRIED_BYTES = 16 << 10;

export interface TransmissionOptions {
  readonly agreement: Agreement;
  readonly socket: Duplex;
  readonly limits: NbdLimits;
  readonly pool: BufferPool;
  readonly budget: MemoryBudget;
  /** Shared by all clients of the export's device. */
  readonly gate: FlushGate;
  /** There is room again: whoever stopped giving bytes may go on. */
  readonly onRoom: () => void;
  /** The client said goodbye, or `end` was called, and every request's answer was sent. */
  readonly onDone: () => void;
  /** The client makes no sense; nothing more is to be given. */
  readonly onMalformed: (error: unknown) => void;
}

export class Transmission implements IntakeHandler {
  readonly #options: TransmissionOptions;
  readonly #device: BlockDevice;
  readonly #intake: RequestIntake;
  readonly #writer: ReplyWriter;
  readonly #replies: Replies;
  readonly #admission: Admission;
  /** Memory of the WRITE whose payload is under way. */
  #payloadOwner: Buffer | undefined;
  /** Requests that the device works on. */
  #running = 0;
  /** The intake waits for room. */
  #blocked = false;
  #ending = false;

  constructor(options: TransmissionOptions) {
    const { agreement, socket, limits, pool, budget } = options;
    this.#options = options;
    this.#device = agreement.export.device;
    this.#intake = new RequestIntake(this);
    this.#writer = new ReplyWriter(socket, pool, (requests, bytes) => this.#sent(requests, bytes));
    this.#replies = new Replies(this.#writer, pool, agreement.structured);
    this.#admission = new Admission(limits, budget, () => setImmediate(() => this.#goOn()));
  }

  /** Memory that only the client can free: by reading its replies, or sending the rest of a payload. */
  get stalledBytes(): number {
    return this.#running === 0 ? this.#admission.bytes : 0;
  }

  /** False: give no more until `onRoom`. */
  add(chunk: Buffer): boolean {
    if (this.#ending) return true;
    this.#parse(() => this.#intake.add(chunk));
    return !this.#blocked;
  }

  /** No more requests are taken: the client said goodbye, or the server did. */
  get isEnding(): boolean {
    return this.#ending;
  }

  /** No more requests are taken; `onDone` follows once those taken are answered. */
  end(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#admission.giveUp();
    const unfinished = this.#intake.unfinished;
    if (unfinished !== undefined) {
      this.#givePayload();
      this.#admission.leave(1, unfinished.lengthBytes);
    }
    setImmediate(() => this.#checkDone());
  }

  /** The connection is gone: replies are given up; what the device works on runs to its end unheard. */
  abandon(): void {
    this.#writer.close();
    this.end();
    this.#writer.flush();
  }

  onRequest(request: NbdRequest): 'wait' | 'stop' | 'taken' | 'skip' | Buffer {
    if (request.type === COMMAND.disconnect) this.end();
    if (this.#ending) return 'stop';
    const { agreement, limits, pool } = this.#options;
    const refused = refusal(request, agreement, limits);
    const cost = refused === undefined ? this.#cost(request) : 0;
    if (!this.#admission.enter(cost)) return 'wait';
    if (refused !== undefined) {
      this.#replies.failed(request, refused.error, refused.message);
      this.#writer.finish(cost);
      return 'skip';
    }
    if (request.type !== COMMAND.write || request.lengthBytes === 0) {
      this.#start(request, cost);
      return 'taken';
    }
    this.#payloadOwner = pool.take(request.lengthBytes);
    return this.#payloadOwner.subarray(0, request.lengthBytes);
  }

  onPayload(request: NbdRequest, payload: Buffer): void {
    const owner = this.#payloadOwner;
    this.#payloadOwner = undefined;
    this.#run(request, request.lengthBytes, perform(this.#device, this.#options.gate, request, payload), () => {
      if (owner !== undefined) this.#options.pool.give(owner);
    });
  }

  /** Memory that a request takes until its reply is sent. */
  #cost({ type, lengthBytes }: NbdRequest): number {
    if (type === COMMAND.read || type === COMMAND.write) return lengthBytes;
    if (type !== COMMAND.blockStatus) return 0;
    const { agreement, limits } = this.#options;
    return Math.min(lengthBytes, limits.statusExtents) * STATUS_EXTENT_BYTES * agreement.contexts.length;
  }

  #start(request: NbdRequest, cost: number): void {
    if (request.type === COMMAND.read && request.lengthBytes > 0) this.#read(request);
    else if (request.type === COMMAND.blockStatus) this.#status(request, cost);
    else this.#run(request, cost, perform(this.#device, this.#options.gate, request));
  }

  #run(request: NbdRequest, cost: number, operation: Promise<void>, free?: () => void): void {
    this.#running++;
    operation.then(
      () => {
        free?.();
        this.#replies.done(request);
        this.#finished(cost);
      },
      (error: unknown) => {
        free?.();
        this.#failed(request, error, cost);
      },
    );
  }

  #read(request: NbdRequest): void {
    const { offsetBytes, lengthBytes } = request;
    if (lengthBytes <= MOST_TRIED_BYTES && this.#tryRead(request)) return;
    const owner = this.#options.pool.take(lengthBytes);
    const data = owner.subarray(0, lengthBytes);
    this.#running++;
    this.#device.read(offsetBytes, data).then(
      () => {
        this.#replies.data(request, data, owner);
        this.#finished(lengthBytes);
      },
      (error: unknown) => {
        this.#options.pool.give(owner);
        this.#failed(request, error, lengthBytes);
      },
    );
  }

  #tryRead(request: NbdRequest): boolean {
    const device = this.#device;
    if (device.tryRead === undefined) return false;
    if (!this.#replies.dataInPlace(request, (into) => device.tryRead?.(request.offsetBytes, into) === true))
      return false;
    this.#writer.finish(request.lengthBytes);
    return true;
  }

  #status(request: NbdRequest, cost: number): void {
    this.#running++;
    this.#gatherStatus(request).then(
      (payloads) => {
        this.#replies.status(request, payloads);
        this.#finished(cost);
      },
      (error: unknown) => this.#failed(request, error, cost),
    );
  }

  async #gatherStatus({ flags, offsetBytes, lengthBytes }: NbdRequest): Promise<Buffer[]> {
    const { agreement, limits } = this.#options;
    const most = (flags & COMMAND_FLAG.reqOne) === 0 ? limits.statusExtents : 1;
    const payloads: Buffer[] = [];
    for (const [index, context] of agreement.contexts.entries()) {
      const extents = await statusExtents(this.#device, context, offsetBytes, lengthBytes, most);
      payloads.push(encodeStatusChunk({ contextId: index + 1, extents }));
    }
    return payloads;
  }

  #failed(request: NbdRequest, error: unknown, cost: number): void {
    this.#replies.failed(request, wireErrorOf(error), error instanceof Error ? error.message : String(error));
    this.#finished(cost);
  }

  /** The device is done with a request and its reply is written. */
  #finished(cost: number): void {
    this.#running--;
    this.#writer.finish(cost);
    if (this.#running === 0) this.#writer.flush();
  }

  #sent(requests: number, bytes: number): void {
    this.#admission.leave(requests, bytes);
    this.#checkDone();
    this.#goOn();
  }

  #goOn(): void {
    if (!this.#blocked || this.#ending) return;
    this.#parse(() => this.#intake.resume());
    if (!this.#blocked) this.#options.onRoom();
  }

  #parse(more: () => boolean): void {
    try {
      this.#blocked = !more();
    } catch (error) {
      this.#blocked = true;
      this.#options.onMalformed(error);
    }
    if (this.#running === 0) this.#writer.flush();
  }

  #checkDone(): void {
    if (this.#ending && this.#admission.requests === 0) this.#options.onDone();
  }

  #givePayload(): void {
    if (this.#payloadOwner !== undefined) this.#options.pool.give(this.#payloadOwner);
    this.#payloadOwner = undefined;
  }
}
