// SPDX-License-Identifier: MIT
// The transmission phase: request headers and reply headers. These are on the hot path: they read and write at a place
// in a larger buffer and allocate nothing but the value they return.

import { malformed, readUint64, writeUint64 } from './byte-reader.js';
import { REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC } from './constants.js';

export interface NbdRequest {
  readonly flags: number;
  readonly type: number;
  /** The client's mark of this request, two halves of 64 bits: a bigint would cost more than all the rest. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Not exact above 2^53; see `readUint64`. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Writes 28 bytes at `at`. */
export function encodeRequest(request: NbdRequest, into: Buffer, at: number): void {
  into.writeUInt32BE(REQUEST_MAGIC, at);
  into.writeUInt16BE(request.flags, at + 4);
  into.writeUInt16BE(request.type, at + 6);
  into.writeUInt32BE(request.cookieHigh, at + 8);
  into.writeUInt32BE(request.cookieLow, at + 12);
  writeUint64(into, request.offsetBytes, at + 16);
  into.writeUInt32BE(request.lengthBytes, at + 24);
}

/** Reads the 28 bytes at `at`; throws when the magic number is not there: the stream cannot be followed any more. */
export function decodeRequest(bytes: Buffer, at: number): NbdRequest {
  if (bytes.readUInt32BE(at) !== REQUEST_MAGIC) throw malformed('a request without its magic number');
  return {
    flags: bytes.readUInt16BE(at + 4),
    type: bytes.readUInt16BE(at + 6),
    cookieHigh: bytes.readUInt32BE(at + 8),
    cookieLow: bytes.readUInt32BE(at + 12),
    offsetBytes: readUint64(bytes, at + 16),
    lengthBytes: bytes.readUInt32BE(at + 24),
  };
}

/** What a reply is matched with its request by. */
export type Cookie = Pick<NbdRequest, 'cookieHigh' | 'cookieLow'>;

/** Writes 16 bytes at `at`. The data of a successful READ follow them. */
export function encodeSimpleReply(cookie: Cookie, error: number, into: Buffer, at: number): void {
  into.writeUInt32BE(SIMPLE_REPLY_MAGIC, at);
  into.writeUInt32BE(error, at + 4);
  into.writeUInt32BE(cookie.cookieHigh, at + 8);
  into.writeUInt32BE(cookie.cookieLow, at + 12);
}

export interface SimpleReply extends Cookie {
  readonly error: number;
}

/** Reads the 16 bytes at `at`, whose magic number the caller has looked at. */
export function decodeSimpleReply(bytes: Buffer, at: number): SimpleReply {
  return {
    error: bytes.readUInt32BE(at + 4),
    cookieHigh: bytes.readUInt32BE(at + 8),
    cookieLow: bytes.readUInt32BE(at + 12),
  };
}

export interface ChunkHeader extends Cookie {
  readonly flags: number;
  readonly type: number;
  readonly lengthBytes: number;
}

/** Writes 20 bytes at `at`: the header of one chunk of a structured reply. */
export function encodeChunkHeader(header: ChunkHeader, into: Buffer, at: number): void {
  into.writeUInt32BE(STRUCTURED_REPLY_MAGIC, at);
  into.writeUInt16BE(header.flags, at + 4);
  into.writeUInt16BE(header.type, at + 6);
  into.writeUInt32BE(header.cookieHigh, at + 8);
  into.writeUInt32BE(header.cookieLow, at + 12);
  into.writeUInt32BE(header.lengthBytes, at + 16);
}

/** Reads the 20 bytes at `at`, whose magic number the caller has looked at. */
export function decodeChunkHeader(bytes: Buffer, at: number): ChunkHeader {
  return {
    flags: bytes.readUInt16BE(at + 4),
    type: bytes.readUInt16BE(at + 6),
    cookieHigh: bytes.readUInt32BE(at + 8),
    cookieLow: bytes.readUInt32BE(at + 12),
    lengthBytes: bytes.readUInt32BE(at + 16),
  };
}
