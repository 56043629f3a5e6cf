// SPDX-License-Identifier: MIT
// A client that sends what a test tells it to, right or wrong, and notes what comes back.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { decodeErrorChunk } from '#vmar/src/nbd/protocol/chunks.js';
import {
  CHUNK,
  CHUNK_FLAG_DONE,
  GREETING_BYTES,
  OPTION,
  OPTION_REPLY,
  OPTION_REPLY_HEADER_BYTES,
  REQUEST_BYTES,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_BYTES,
} from '#vmar/src/nbd/protocol/constants.js';
import { decodeOptionReplyHeader, encodeClientFlags, encodeOption } from '#vmar/src/nbd/protocol/handshake.js';
import { encodeInfoRequest } from '#vmar/src/nbd/protocol/option-data.js';
import { decodeChunkHeader, decodeSimpleReply, encodeRequest } from '#vmar/src/nbd/protocol/requests.js';

export interface Wanted {
  readonly type: number;
  readonly flags?: number;
  readonly cookie?: number;
  readonly offset?: number;
  readonly length?: number;
}

export interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

/** A whole reply; the data of READ where there are any. */
export interface Reply {
  readonly cookie: number;
  readonly error: number;
  readonly data: Buffer;
}

export function request({ type, flags = 0, cookie = 1, offset = 0, length = 0 }: Wanted, payload?: Uint8Array): Buffer {
  const bytes = Buffer.alloc(REQUEST_BYTES);
  encodeRequest({ type, flags, cookieHigh: 7, cookieLow: cookie, offsetBytes: offset, lengthBytes: length }, bytes, 0);
  return payload === undefined ? bytes : Buffer.concat([bytes, payload]);
}

export class RawClient {
  readonly socket: Socket;
  #bytes = Buffer.alloc(0);
  #wake: () => void = () => {};
  /** Resolves when the server hung up. */
  readonly closed: Promise<void>;
  #isClosed = false;
  structured = false;

  constructor(path: string) {
    this.socket = connect({ path });
    this.socket.on('error', () => {});
    this.socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    this.closed = new Promise((resolve) => {
      this.socket.once('close', () => {
        this.#isClosed = true;
        this.#wake();
        resolve();
      });
    });
  }

  /** Bytes that have come and were not taken. */
  get heardBytes(): number {
    return this.#bytes.length;
  }

  /** Waits for so many bytes; rejects when the server hangs up before. */
  async take(lengthBytes: number): Promise<Buffer> {
    while (this.#bytes.length < lengthBytes) {
      if (this.#isClosed) throw new Error(`hung up with ${this.#bytes.length} of ${lengthBytes} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#bytes.subarray(0, lengthBytes);
    this.#bytes = this.#bytes.subarray(lengthBytes);
    return taken;
  }

  send(...parts: Uint8Array[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  async greet(flags = 3): Promise<void> {
    await this.take(GREETING_BYTES);
    this.send(encodeClientFlags(flags));
  }

  async optionReply(): Promise<OptionReply> {
    const { type, lengthBytes } = decodeOptionReplyHeader(await this.take(OPTION_REPLY_HEADER_BYTES));
    return { type, data: await this.take(lengthBytes) };
  }

  /** Sends an option and takes every reply up to ACK or an error. */
  async option(option: number, data?: Uint8Array): Promise<OptionReply[]> {
    this.send(encodeOption(option, data));
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.optionReply();
      replies.push(reply);
      if (reply.type === OPTION_REPLY.ack || reply.type >= OPTION_REPLY.errUnsupported) return replies;
    }
  }

  /** All the way to the transmission. */
  async go(exportName = '', structured = false): Promise<void> {
    await this.greet();
    if (structured) await this.option(OPTION.structuredReply);
    this.structured = structured;
    const replies = await this.option(OPTION.go, encodeInfoRequest({ exportName, wishes: [] }));
    if (replies.at(-1)?.type !== OPTION_REPLY.ack) throw new Error('the export was refused');
  }

  /** The next reply. For simple ones the caller says how long the data of a READ with that cookie are. */
  async reply(readBytes: (cookie: number) => number): Promise<Reply> {
    const magic = (await this.take(4)).readUInt32BE(0);
    if (magic === SIMPLE_REPLY_MAGIC) {
      const head = Buffer.concat([Buffer.alloc(4), await this.take(SIMPLE_REPLY_BYTES - 4)]);
      const { error, cookieHigh, cookieLow } = decodeSimpleReply(head, 0);
      if (cookieHigh !== 7) throw new Error('another cookie');
      return { cookie: cookieLow, error, data: await this.take(error === 0 ? readBytes(cookieLow) : 0) };
    }
    const head = Buffer.concat([Buffer.alloc(4), await this.take(STRUCTURED_REPLY_BYTES - 4)]);
    const { flags, type, cookieHigh, cookieLow: cookie, lengthBytes } = decodeChunkHeader(head, 0);
    const payload = await this.take(lengthBytes);
    if (cookieHigh !== 7 || flags !== CHUNK_FLAG_DONE) throw new Error('another cookie, or more than one chunk');
    if (type === CHUNK.offsetData) return { cookie, error: 0, data: payload.subarray(8) };
    if (type === CHUNK.offsetHole) return { cookie, error: 0, data: Buffer.alloc(payload.readUInt32BE(8)) };
    if (type === CHUNK.none || type === CHUNK.blockStatus) return { cookie, error: 0, data: payload };
    return { cookie, error: decodeErrorChunk(type, payload).error, data: Buffer.alloc(0) };
  }

  async ask(wanted: Wanted, payload?: Uint8Array): Promise<Reply> {
    this.send(request(wanted, payload));
    return this.reply(() => (wanted.type === 0 ? (wanted.length ?? 0) : 0));
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.socket.destroy();
    await once(this.socket, 'close');
  }
}
