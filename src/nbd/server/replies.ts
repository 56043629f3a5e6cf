// SPDX-License-Identifier: MIT
// Replies of one client, in the form that it agreed to: simple or structured.

import { isAllZero } from '../../base/bytes.js';
import { writeUint64 } from '../protocol/byte-reader.js';
import { encodeErrorChunk, encodeHole, OFFSET_BYTES } from '../protocol/chunks.js';
import {
  CHUNK,
  CHUNK_FLAG_DONE,
  COMMAND,
  COMMAND_FLAG,
  SIMPLE_REPLY_BYTES,
  STRUCTURED_REPLY_BYTES,
} from '../protocol/constants.js';
import { encodeChunkHeader, encodeSimpleReply, type NbdRequest } from '../protocol/requests.js';
import type { BufferPool } from './buffer-pool.js';
import type { ReplyWriter } from './reply-writer.js';

/** Data up to this size are copied behind their header: cheaper than a piece of their own. */
const COPIED_BYTES = 16 << 10;
/** Shorter reads are not looked through for zeros: sending them costs no more. */
const LEAST_HOLE_BYTES = 4096;

export class Replies {
  readonly #writer: ReplyWriter;
  readonly #pool: BufferPool;
  readonly #structured: boolean;
  /** Bytes before the data of a READ. */
  readonly #headBytes: number;

  constructor(writer: ReplyWriter, pool: BufferPool, structured: boolean) {
    this.#writer = writer;
    this.#pool = pool;
    this.#structured = structured;
    this.#headBytes = structured ? STRUCTURED_REPLY_BYTES + OFFSET_BYTES : SIMPLE_REPLY_BYTES;
  }

  /** Success without data. */
  done(request: NbdRequest): void {
    // A structured reply is demanded only where data could be: after a READ, even an empty one.
    if (this.#structured && request.type === COMMAND.read) this.#chunk(request, CHUNK.none, undefined, true);
    else this.#simple(request, 0);
  }

  failed(request: NbdRequest, error: number, message: string): void {
    if (this.#structured) this.#chunk(request, CHUNK.error, encodeErrorChunk({ error, message }), true);
    else this.#simple(request, error);
  }

  /** Block status: a payload for each context, at least one. */
  status(request: NbdRequest, payloads: readonly Buffer[]): void {
    const last = payloads.length - 1;
    for (const [index, payload] of payloads.entries()) this.#chunk(request, CHUNK.blockStatus, payload, index === last);
  }

  /** What was read. `data` lies in `owner`, which goes back to the pool when it is not needed any more. */
  data(request: NbdRequest, data: Buffer, owner: Buffer): void {
    const { offsetBytes, lengthBytes } = request;
    const mayBeHole = this.#structured && (request.flags & COMMAND_FLAG.df) === 0 && lengthBytes >= LEAST_HOLE_BYTES;
    if (mayBeHole && isAllZero(data)) {
      this.#chunk(request, CHUNK.offsetHole, encodeHole({ offsetBytes, lengthBytes }), true);
      this.#pool.give(owner);
    } else if (lengthBytes > COPIED_BYTES) {
      const memory = this.#writer.room(this.#headBytes);
      this.#encodeHead(request, memory, this.#writer.place(this.#headBytes));
      this.#writer.append(data, owner);
    } else {
      const memory = this.#writer.room(this.#headBytes + lengthBytes);
      const at = this.#writer.place(this.#headBytes + lengthBytes);
      this.#encodeHead(request, memory, at);
      data.copy(memory, at + this.#headBytes);
      this.#pool.give(owner);
    }
  }

  /** Lets `read` fill the memory that is sent. If it says false, nothing is. */
  dataInPlace(request: NbdRequest, read: (into: Buffer) => boolean): boolean {
    const wholeBytes = this.#headBytes + request.lengthBytes;
    const memory = this.#writer.room(wholeBytes);
    const at = this.#writer.place(wholeBytes);
    if (!read(memory.subarray(at + this.#headBytes, at + wholeBytes))) {
      this.#writer.undo(wholeBytes);
      return false;
    }
    this.#encodeHead(request, memory, at);
    return true;
  }

  #encodeHead(request: NbdRequest, memory: Buffer, at: number): void {
    if (!this.#structured) {
      encodeSimpleReply(request, 0, memory, at);
      return;
    }
    const { cookieHigh, cookieLow, offsetBytes } = request;
    const lengthBytes = OFFSET_BYTES + request.lengthBytes;
    const header = { flags: CHUNK_FLAG_DONE, type: CHUNK.offsetData, cookieHigh, cookieLow, lengthBytes };
    encodeChunkHeader(header, memory, at);
    writeUint64(memory, offsetBytes, at + STRUCTURED_REPLY_BYTES);
  }

  #simple(request: NbdRequest, error: number): void {
    const memory = this.#writer.room(SIMPLE_REPLY_BYTES);
    encodeSimpleReply(request, error, memory, this.#writer.place(SIMPLE_REPLY_BYTES));
  }

  #chunk({ cookieHigh, cookieLow }: NbdRequest, type: number, payload: Buffer | undefined, done: boolean): void {
    const lengthBytes = payload?.length ?? 0;
    const wholeBytes = STRUCTURED_REPLY_BYTES + lengthBytes;
    const memory = this.#writer.room(wholeBytes);
    const at = this.#writer.place(wholeBytes);
    const flags = done ? CHUNK_FLAG_DONE : 0;
    encodeChunkHeader({ flags, type, cookieHigh, cookieLow, lengthBytes }, memory, at);
    payload?.copy(memory, at + STRUCTURED_REPLY_BYTES);
  }
}
