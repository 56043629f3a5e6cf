// SPDX-License-Identifier: MIT
// Replies on their way to a client: small ones gathered into one piece of memory, large ones passed on as they are, all
// of one turn of the event loop in one system call.

import type { Duplex } from 'node:stream';
import type { BufferPool } from './buffer-pool.js';

const ARENA_BYTES = 128 << 10;

/** What one turn of the event loop sends. */
class Batch {
  readonly parts: Buffer[] = [];
  readonly release: Buffer[] = [];
  requests = 0;
  bytes = 0;
}

/** Called when replies have left for the client, or never will: with their number and the memory that is free again. */
export type OnSent = (requests: number, bytes: number) => void;

export class ReplyWriter {
  readonly #socket: Duplex;
  readonly #pool: BufferPool;
  readonly #onSent: OnSent;
  #batch = new Batch();
  #arena: Buffer | undefined;
  /** The part of the arena that is filled but not yet a part of the batch. */
  #from = 0;
  #to = 0;
  #scheduled = false;
  /** A batch is on its way. The next one grows meanwhile: a client that does not read keeps us from holding many. */
  #sending = false;
  #closed = false;

  constructor(socket: Duplex, pool: BufferPool, onSent: OnSent) {
    this.#socket = socket;
    this.#pool = pool;
    this.#onSent = onSent;
  }

  /**
   * Memory for so many bytes of a reply, to be filled before anything else is called here. It lies in the buffer that is
   * returned, at `place`: nothing is allocated for it.
   */
  room(lengthBytes: number): Buffer {
    if (this.#arena === undefined || this.#to + lengthBytes > this.#arena.length) {
      this.#closeSegment();
      this.#arena = this.#pool.take(Math.max(ARENA_BYTES, lengthBytes));
      this.#batch.release.push(this.#arena);
      this.#from = 0;
      this.#to = 0;
    }
    this.#to += lengthBytes;
    return this.#arena;
  }

  /** Where the last `room` of so many bytes begins. */
  place(lengthBytes: number): number {
    return this.#to - lengthBytes;
  }

  /** Takes back the last so many bytes of room: nothing of them is sent. */
  undo(lengthBytes: number): void {
    this.#to -= lengthBytes;
  }

  /** Sends bytes as they lie. `owner` goes back to the pool once they are sent. */
  append(bytes: Buffer, owner: Buffer): void {
    this.#closeSegment();
    this.#batch.parts.push(bytes);
    this.#batch.release.push(owner);
  }

  /** The reply to one request is complete; `bytes` of memory are held for it. */
  finish(bytes: number): void {
    this.#batch.requests++;
    this.#batch.bytes += bytes;
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#flushLater);
  }

  readonly #flushLater = (): void => {
    this.#scheduled = false;
    this.flush();
  };

  /** Sends now what is gathered. */
  flush(): void {
    const batch = this.#batch;
    if (batch.requests === 0 || (this.#sending && !this.#closed)) return;
    this.#closeSegment();
    this.#arena = undefined;
    this.#batch = new Batch();
    const sent = () => {
      for (const buffer of batch.release) this.#pool.give(buffer);
      this.#sending = false;
      this.#onSent(batch.requests, batch.bytes);
      this.flush();
    };
    if (this.#closed) {
      sent();
      return;
    }
    this.#sending = true;
    const last = batch.parts.length - 1;
    if (last > 0) this.#socket.cork();
    for (let index = 0; index < last; index++) this.#socket.write(batch.parts[index]);
    this.#socket.write(batch.parts[last], sent);
    if (last > 0) this.#socket.uncork();
  }

  /** The client is gone: whatever still comes is given up at once. */
  close(): void {
    this.#closed = true;
  }

  #closeSegment(): void {
    if (this.#arena === undefined || this.#to === this.#from) return;
    this.#batch.parts.push(this.#arena.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }
}
