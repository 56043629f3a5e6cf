// SPDX-License-Identifier: MIT
// One client, from its first byte to its last: handshake, TLS if there is any, transmission.

import type { Socket } from 'node:net';
import type { Clock } from '../../base/clock.js';
import { FailedError } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { BlockDevice } from '../../block/device.js';
import { HANDSHAKE_FLAG } from '../protocol/constants.js';
import { encodeGreeting } from '../protocol/handshake.js';
import type { BufferPool } from './buffer-pool.js';
import type { FlushGate } from './flush-gate.js';
import { HandshakeIntake, type HandshakePiece } from './handshake-intake.js';
import type { NbdLimits } from './limits.js';
import type { MemoryBudget } from './memory-budget.js';
import type { NbdExport } from './nbd-export.js';
import { type Agreement, Negotiation, type Outcome, type TlsState } from './negotiation.js';
import { Transmission } from './transmission.js';

const OFFERED = HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes;

/** Makes TLS of a connection; the socket it resolves to has finished the handshake and checked the client. */
export type StartTls = (socket: Socket) => Promise<Socket>;

export interface ConnectionOptions {
  readonly socket: Socket;
  readonly exports: readonly NbdExport[];
  readonly limits: NbdLimits;
  readonly pool: BufferPool;
  readonly budget: MemoryBudget;
  readonly gateOf: (device: BlockDevice) => FlushGate;
  readonly clock: Clock;
  readonly log: Log;
  /** TLS is required where it is there. */
  readonly startTls: StartTls | undefined;
  /** An export was chosen. */
  readonly onChosen: (connection: Connection) => void;
  readonly onClosed: (connection: Connection) => void;
}

type Phase =
  | { readonly name: 'handshake'; readonly intake: HandshakeIntake; readonly negotiation: Negotiation | undefined }
  | { readonly name: 'starting-tls' }
  | { readonly name: 'transmission'; readonly transmission: Transmission; readonly exportName: string }
  | { readonly name: 'closing' };

export class Connection {
  readonly #options: ConnectionOptions;
  #socket: Socket;
  #phase: Phase;
  #secured = false;
  #noZeroes = false;
  #optionCount = 0;
  #leaving = false;
  #closed = false;
  #progressMillis: number;
  readonly #chosen = new AbortController();
  readonly #left = new AbortController();

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#socket = options.socket;
    this.#progressMillis = options.clock.monotonicMillis();
    this.#phase = this.#handshake('flags');
    this.#listen(options.socket);
    options.socket.write(encodeGreeting(OFFERED));
    options.clock.sleep(options.limits.handshakeMillis, this.#chosen.signal).then(
      () => this.#drop('the handshake took too long'),
      () => {},
    );
  }

  /** The export that it uses; undefined before one is chosen. */
  get exportName(): string | undefined {
    return this.#phase.name === 'transmission' ? this.#phase.exportName : undefined;
  }

  /** Memory held for the peer alone, if nothing was heard of it for so long. */
  stalledBytes(stallMillis: number): number {
    if (this.#phase.name !== 'transmission') return 0;
    if (this.#options.clock.monotonicMillis() - this.#progressMillis < stallMillis) return 0;
    return this.#phase.transmission.stalledBytes;
  }

  /** Takes no more requests, answers those it took, and hangs up. */
  end(): void {
    if (this.#phase.name === 'transmission') this.#phase.transmission.end();
    else this.#drop('the server ends');
  }

  /** Hangs up at once. */
  destroy(reason: string): void {
    this.#drop(reason);
  }

  #handshake(begin: 'flags' | 'header'): Phase {
    const intake = new HandshakeIntake(this.#options.limits.optionBytes, begin);
    return { name: 'handshake', intake, negotiation: begin === 'flags' ? undefined : this.#negotiation() };
  }

  #negotiation(): Negotiation {
    const { exports, limits, startTls } = this.#options;
    const tls: TlsState = startTls === undefined ? 'none' : this.#secured ? 'done' : 'required';
    return new Negotiation({ exports, limits, tls, noZeroes: this.#noZeroes });
  }

  #listen(socket: Socket): void {
    socket.setNoDelay(true);
    socket.on('data', this.#onData);
    socket.on('drain', this.#onProgress);
    socket.on('end', this.#onEnd);
    socket.on('error', this.#onError);
    socket.on('close', this.#onClose);
  }

  readonly #onProgress = (): void => {
    this.#progressMillis = this.#options.clock.monotonicMillis();
  };

  readonly #onData = (chunk: Buffer): void => {
    this.#onProgress();
    try {
      const phase = this.#phase;
      if (phase.name === 'transmission') {
        if (!phase.transmission.add(chunk)) this.#socket.pause();
      } else if (phase.name === 'handshake') {
        phase.intake.add(chunk);
        this.#haggle();
      }
    } catch (error) {
      this.#malformed(error);
    }
  };

  #malformed(error: unknown): void {
    if (!(error instanceof FailedError)) throw error;
    this.#drop(error.message);
  }

  /** After a goodbye, answers may still be on their way; a client that just hangs up will not hear them. */
  readonly #onEnd = (): void => {
    if (this.#phase.name === 'transmission' && this.#phase.transmission.isEnding) return;
    this.#drop('it hung up');
  };

  readonly #onError = (error: Error): void => {
    this.#options.log.debug(`NBD client: ${error.message}`);
  };

  readonly #onClose = (): void => {
    if (this.#closed) return;
    this.#closed = true;
    this.#chosen.abort();
    this.#left.abort();
    if (this.#phase.name === 'transmission') this.#phase.transmission.abandon();
    this.#options.onClosed(this);
  };

  #drop(reason: string): void {
    if (this.#socket.destroyed) return;
    this.#options.log.debug(`NBD client disconnected: ${reason}`);
    this.#socket.destroy();
  }

  /** Works off every option that has arrived. */
  #haggle(): void {
    for (;;) {
      const phase = this.#phase;
      if (phase.name !== 'handshake' || this.#socket.destroyed) return;
      const piece = phase.intake.next();
      if (piece === undefined) return;
      if (piece.kind === 'flags') this.#clientFlags(piece.flags, phase.intake);
      else this.#option(piece, phase.intake, phase.negotiation);
    }
  }

  #clientFlags(flags: number, intake: HandshakeIntake): void {
    if ((flags & ~OFFERED) !== 0) {
      this.#drop('it set flags that are not known here');
      return;
    }
    this.#noZeroes = (flags & HANDSHAKE_FLAG.noZeroes) !== 0;
    this.#phase = { name: 'handshake', intake, negotiation: this.#negotiation() };
  }

  #option(
    piece: Exclude<HandshakePiece, { kind: 'flags' }>,
    intake: HandshakeIntake,
    negotiation: Negotiation | undefined,
  ): void {
    if (negotiation === undefined) return;
    this.#optionCount++;
    if (this.#optionCount > this.#options.limits.options) {
      this.#drop('it sent too many options');
      return;
    }
    const outcome =
      piece.kind === 'option' ? negotiation.option(piece.option, piece.data) : negotiation.tooLong(piece.option);
    this.#follow(outcome, intake);
  }

  #follow(outcome: Outcome, intake: HandshakeIntake): void {
    const bytes = Buffer.concat(outcome.send);
    switch (outcome.next) {
      case 'option':
        this.#sendReply(bytes);
        return;
      case 'close':
        this.#phase = { name: 'closing' };
        if (outcome.reason === undefined) this.#socket.end(bytes);
        else this.#drop(outcome.reason);
        return;
      case 'tls':
        this.#secure(bytes, intake.rest());
        return;
      case 'transmission':
        this.#socket.write(bytes);
        this.#transmit(outcome.agreement, intake.rest());
    }
  }

  /** A client that asks and asks but never reads the answers must not fill our memory with them. */
  #sendReply(bytes: Buffer): void {
    this.#socket.write(bytes);
    if (this.#socket.writableLength > 1 << 20) this.#drop('it does not read the answers to its options');
  }

  #secure(reply: Buffer, early: Buffer): void {
    const { startTls } = this.#options;
    if (startTls === undefined || early.length > 0) {
      // Whatever came before the answer was not protected: it may be someone else's.
      this.#drop('it sent more before TLS was started');
      return;
    }
    this.#phase = { name: 'starting-tls' };
    const plain = this.#socket;
    plain.pause();
    plain.off('data', this.#onData);
    plain.write(reply, () => {
      startTls(plain).then(
        (socket) => this.#begin(plain, socket),
        (error: unknown) => this.#drop(`TLS failed: ${error instanceof Error ? error.message : String(error)}`),
      );
    });
  }

  /** Everything starts over, but in private. */
  #begin(plain: Socket, secure: Socket): void {
    for (const [event, listener] of [
      ['drain', this.#onProgress],
      ['end', this.#onEnd],
    ] as const) {
      plain.off(event, listener);
    }
    this.#secured = true;
    this.#socket = secure;
    this.#phase = this.#handshake('header');
    this.#listen(secure);
  }

  #transmit(agreement: Agreement, early: Buffer): void {
    this.#chosen.abort();
    const { limits, pool, budget, gateOf } = this.#options;
    const socket = this.#socket;
    const transmission = new Transmission({
      ...{ agreement, socket, limits, pool, budget, gate: gateOf(agreement.export.device) },
      onRoom: () => socket.resume(),
      onDone: () => this.#farewell(),
      onMalformed: (error) => this.#malformed(error),
    });
    this.#phase = { name: 'transmission', transmission, exportName: agreement.export.name };
    this.#options.onChosen(this);
    if (early.length > 0 && !transmission.add(early)) socket.pause();
  }

  /** Everything is answered. The client is let to hang up first, lest answers on their way be lost; but not for ever. */
  #farewell(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    this.#socket.end();
    this.#socket.resume();
    this.#options.clock.sleep(this.#options.limits.handshakeMillis, this.#left.signal).then(
      () => this.#drop('it did not hang up'),
      () => {},
    );
  }
}
