// SPDX-License-Identifier: MIT
// Takes the stream of replies apart. Data of reads are copied straight to where the caller wants them; of everything
// else only small, bounded pieces are ever kept.

import { asBuffer } from '../../base/bytes.js';
import { copyBytes } from '../../base/syscalls.js';
import { readUint64 } from '../protocol/byte-reader.js';
import { decodeErrorChunk, decodeHole, HOLE_BYTES, OFFSET_BYTES } from '../protocol/chunks.js';
import {
  CHUNK,
  CHUNK_ERROR,
  CHUNK_FLAG_DONE,
  COMMAND,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_BYTES,
  STRUCTURED_REPLY_MAGIC,
} from '../protocol/constants.js';
import { type ChunkHeader, decodeChunkHeader, decodeSimpleReply } from '../protocol/requests.js';
import { brokenProtocol } from './client-errors.js';
import { type Exchange, isChunkFor } from './exchange.js';

/** A million extents; servers send fewer. */
const MOST_STATUS_BYTES = 4 + (8 << 20);
/** An error with its message and offset. */
const MOST_ERROR_BYTES = 6 + 65536 + 8;

export interface Replies {
  /** The request with this cookie, if it is waiting for an answer. */
  find(cookieHigh: number, cookieLow: number): Exchange | undefined;
  /** Its answer is whole. */
  done(exchange: Exchange): void;
}

type State =
  /** Less than a header has come of the next reply. */
  | { readonly kind: 'header' }
  /** Data of a read. */
  | { readonly kind: 'data'; readonly exchange: Exchange; readonly isLast: boolean }
  /** The rest of a chunk, kept until it is whole. */
  | { readonly kind: 'payload'; readonly exchange: Exchange; readonly header: ChunkHeader };

const HEADER: State = { kind: 'header' };
const EMPTY = Buffer.alloc(0);

export class ReplyParser {
  readonly #uri: string;
  readonly #structured: boolean;
  readonly #replies: Replies;
  #state: State = HEADER;
  /** Beginning of a header or a payload that came in pieces. */
  readonly #head = Buffer.alloc(STRUCTURED_REPLY_BYTES);
  #kept: Buffer = EMPTY;
  #keptBytes = 0;
  /** Of state 'data': where the rest goes. */
  #into: Uint8Array = EMPTY;

  constructor(uri: string, structured: boolean, replies: Replies) {
    this.#uri = uri;
    this.#structured = structured;
    this.#replies = replies;
    this.#expect(HEADER, 0);
  }

  /** Takes the next bytes, which may be overwritten afterwards. Throws a FailedError when they make no sense. */
  feed(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) at = this.#step(bytes, at);
  }

  /** One step on; gives where it got to. */
  #step(bytes: Buffer, at: number): number {
    if (this.#state.kind === 'data') return this.#takeData(bytes, at, this.#state);
    if (this.#state.kind === 'header') return this.#takeHeader(bytes, at);
    const end = this.#keep(this.#kept, this.#kept.length, bytes, at);
    if (this.#keptBytes === this.#kept.length) this.#endPayload(this.#state.exchange, this.#state.header, this.#kept);
    return end;
  }

  #takeData(bytes: Buffer, at: number, { exchange, isLast }: State & { kind: 'data' }): number {
    const count = Math.min(this.#into.byteLength, bytes.length - at);
    copyBytes(this.#into, bytes.subarray(at, at + count));
    this.#into = this.#into.subarray(count);
    if (this.#into.byteLength === 0) this.#endChunk(exchange, isLast);
    return at + count;
  }

  #takeHeader(bytes: Buffer, at: number): number {
    if (this.#keptBytes === 0 && bytes.length - at >= STRUCTURED_REPLY_BYTES) {
      const length = this.#headerBytes(bytes.readUInt32BE(at));
      this.#begin(bytes, at, length);
      return at + length;
    }
    // The magic number tells how long the header is.
    const wanted = this.#keptBytes < 4 ? 4 : this.#headerBytes(this.#head.readUInt32BE(0));
    const end = this.#keep(this.#head, wanted, bytes, at);
    if (this.#keptBytes < 4) return end;
    const length = this.#headerBytes(this.#head.readUInt32BE(0));
    if (this.#keptBytes === length) this.#begin(this.#head, 0, length);
    return end;
  }

  #keep(into: Buffer, wanted: number, bytes: Buffer, at: number): number {
    const count = Math.min(wanted - this.#keptBytes, bytes.length - at);
    bytes.copy(into, this.#keptBytes, at, at + count);
    this.#keptBytes += count;
    return at + count;
  }

  #headerBytes(magic: number): number {
    if (magic === SIMPLE_REPLY_MAGIC) return SIMPLE_REPLY_BYTES;
    if (magic === STRUCTURED_REPLY_MAGIC && this.#structured) return STRUCTURED_REPLY_BYTES;
    throw brokenProtocol(this.#uri, 'a reply without its magic number');
  }

  #expect(state: State, payloadBytes: number): void {
    this.#state = state;
    this.#kept = payloadBytes === 0 ? EMPTY : Buffer.allocUnsafe(payloadBytes);
    this.#keptBytes = 0;
  }

  #begin(bytes: Buffer, at: number, length: number): void {
    if (length === SIMPLE_REPLY_BYTES) this.#beginSimple(bytes, at);
    else this.#beginChunk(decodeChunkHeader(bytes, at));
  }

  #beginSimple(bytes: Buffer, at: number): void {
    const { error, cookieHigh, cookieLow } = decodeSimpleReply(bytes, at);
    const exchange = this.#find(cookieHigh, cookieLow);
    exchange.countChunk();
    if (error !== 0) {
      exchange.fail(error, '');
      this.#endChunk(exchange, true);
    } else if (exchange.isRead || exchange.call.type === COMMAND.blockStatus) {
      if (this.#structured) throw brokenProtocol(this.#uri, 'a simple reply where a structured one was agreed on');
      this.#beginData(exchange, exchange.call.offsetBytes, exchange.call.lengthBytes, true);
    } else this.#endChunk(exchange, true);
  }

  #beginChunk(header: ChunkHeader): void {
    const exchange = this.#find(header.cookieHigh, header.cookieLow);
    exchange.countChunk();
    this.#checkLength(exchange, header);
    const isLast = (header.flags & CHUNK_FLAG_DONE) !== 0;
    if (header.lengthBytes === 0) this.#endChunk(exchange, isLast);
    else if (header.type === CHUNK.offsetData) this.#expect({ kind: 'payload', exchange, header }, OFFSET_BYTES);
    else this.#expect({ kind: 'payload', exchange, header }, header.lengthBytes);
  }

  /** Before anything is made for it. */
  #checkLength(exchange: Exchange, { type, flags, lengthBytes }: ChunkHeader): void {
    const isError = (type & CHUNK_ERROR) !== 0;
    if (!isError && !isChunkFor(exchange.call, type)) {
      throw brokenProtocol(this.#uri, `a chunk of type ${type}, which does not belong there`);
    }
    const [least, most] = isError ? [6, MOST_ERROR_BYTES] : chunkLimits(type, exchange.call.lengthBytes);
    if (lengthBytes < least || lengthBytes > most) {
      throw brokenProtocol(this.#uri, `a chunk of type ${type} of ${lengthBytes} bytes`);
    }
    if (type === CHUNK.none && (flags & CHUNK_FLAG_DONE) === 0) {
      throw brokenProtocol(this.#uri, 'an empty chunk that is not the last');
    }
  }

  #endPayload(exchange: Exchange, header: ChunkHeader, payload: Buffer): void {
    const isLast = (header.flags & CHUNK_FLAG_DONE) !== 0;
    if (header.type === CHUNK.offsetData) {
      this.#beginData(exchange, readUint64(payload, 0), header.lengthBytes - OFFSET_BYTES, isLast);
      return;
    }
    if (header.type === CHUNK.offsetHole) {
      const hole = decodeHole(payload);
      asBuffer(exchange.place(hole.offsetBytes, hole.lengthBytes)).fill(0);
    } else if (header.type === CHUNK.blockStatus) exchange.addStatus(payload);
    else {
      const { error, message } = decodeErrorChunk(header.type, payload);
      exchange.fail(error, message);
    }
    this.#endChunk(exchange, isLast);
  }

  #beginData(exchange: Exchange, offsetBytes: number, lengthBytes: number, isLast: boolean): void {
    this.#into = exchange.place(offsetBytes, lengthBytes);
    this.#expect({ kind: 'data', exchange, isLast }, 0);
  }

  #endChunk(exchange: Exchange, isLast: boolean): void {
    this.#expect(HEADER, 0);
    if (isLast) this.#replies.done(exchange);
  }

  #find(cookieHigh: number, cookieLow: number): Exchange {
    const exchange = this.#replies.find(cookieHigh, cookieLow);
    if (exchange === undefined) throw brokenProtocol(this.#uri, 'a reply to a request that was not sent');
    return exchange;
  }
}

function chunkLimits(type: number, requestBytes: number): readonly [least: number, most: number] {
  switch (type) {
    case CHUNK.offsetData:
      return [OFFSET_BYTES + 1, OFFSET_BYTES + requestBytes];
    case CHUNK.offsetHole:
      return [HOLE_BYTES, HOLE_BYTES];
    case CHUNK.blockStatus:
      return [12, MOST_STATUS_BYTES];
    default:
      return [0, 0];
  }
}
