// SPDX-License-Identifier: MIT
// What chunks of structured replies carry behind their headers. The data of OFFSET_DATA is left to the caller: only the
// eight bytes before it are coded here.

import { asBuffer } from '../../base/bytes.js';
import { ByteReader, malformed, writeUint64 } from './byte-reader.js';
import { CHUNK, MOST_STRING_BYTES, STATUS_EXTENT_BYTES } from './constants.js';
import { decodeMessage } from './option-data.js';

/** Bytes before the data of OFFSET_DATA. */
export const OFFSET_BYTES = 8;
/** The whole payload of OFFSET_HOLE. */
export const HOLE_BYTES = 12;

export interface HoleChunk {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export function encodeHole(hole: HoleChunk): Buffer {
  const bytes = Buffer.alloc(HOLE_BYTES);
  writeUint64(bytes, hole.offsetBytes, 0);
  bytes.writeUInt32BE(hole.lengthBytes, 8);
  return bytes;
}

export function decodeHole(bytes: Uint8Array): HoleChunk {
  const reader = new ByteReader(bytes, 'an OFFSET_HOLE chunk');
  const hole = { offsetBytes: reader.uint64(), lengthBytes: reader.uint32() };
  reader.end();
  return hole;
}

export interface ErrorChunk {
  readonly error: number;
  readonly message: string;
  /** Only in chunks of type ERROR_OFFSET. */
  readonly offsetBytes?: number;
}

/** The payload of ERROR, or of ERROR_OFFSET where there is an offset. A long message is cut. */
export function encodeErrorChunk({ error, message, offsetBytes }: ErrorChunk): Buffer {
  const text = cutText(message);
  const bytes = Buffer.alloc(6 + text.length + (offsetBytes === undefined ? 0 : 8));
  bytes.writeUInt32BE(error, 0);
  bytes.writeUInt16BE(text.length, 4);
  bytes.set(text, 6);
  if (offsetBytes !== undefined) writeUint64(bytes, offsetBytes, 6 + text.length);
  return bytes;
}

/** At most as many bytes as a string may have, and whole characters only. */
function cutText(message: string): Buffer {
  const text = Buffer.from(message);
  if (text.length <= MOST_STRING_BYTES) return text;
  let end = MOST_STRING_BYTES;
  while (end > 0 && (text[end]! & 0xc0) === 0x80) end--;
  return text.subarray(0, end);
}

/** For error types that are not known, too: all begin with the error and the message. */
export function decodeErrorChunk(type: number, bytes: Uint8Array): ErrorChunk {
  const reader = new ByteReader(bytes, 'an error chunk');
  const error = reader.uint32();
  const lengthBytes = reader.uint16();
  const rest = reader.rest();
  if (lengthBytes > rest.length) throw malformed('the message of an error chunk is cut short');
  const message = decodeMessage(rest.subarray(0, lengthBytes));
  if (type !== CHUNK.errorOffset) return { error, message };
  const tail = new ByteReader(rest.subarray(lengthBytes), 'an ERROR_OFFSET chunk');
  return { error, message, offsetBytes: tail.uint64() };
}

/** One extent of a metadata context. */
export interface StatusExtent {
  readonly lengthBytes: number;
  readonly flags: number;
}

export interface StatusChunk {
  readonly contextId: number;
  readonly extents: readonly StatusExtent[];
}

export function encodeStatusChunk({ contextId, extents }: StatusChunk): Buffer {
  const bytes = Buffer.alloc(4 + STATUS_EXTENT_BYTES * extents.length);
  bytes.writeUInt32BE(contextId, 0);
  for (const [index, extent] of extents.entries()) {
    bytes.writeUInt32BE(extent.lengthBytes, 4 + STATUS_EXTENT_BYTES * index);
    bytes.writeUInt32BE(extent.flags, 8 + STATUS_EXTENT_BYTES * index);
  }
  return bytes;
}

/** Throws on an empty list and on empty extents, so that who walks them always gets on. */
export function decodeStatusChunk(payload: Uint8Array): StatusChunk {
  const bytes = asBuffer(payload);
  if (bytes.length < 4 + STATUS_EXTENT_BYTES || (bytes.length - 4) % STATUS_EXTENT_BYTES !== 0) {
    throw malformed(`a BLOCK_STATUS chunk of ${bytes.length} bytes`);
  }
  const extents: StatusExtent[] = [];
  for (let at = 4; at < bytes.length; at += STATUS_EXTENT_BYTES) {
    const extent = { lengthBytes: bytes.readUInt32BE(at), flags: bytes.readUInt32BE(at + 4) };
    if (extent.lengthBytes === 0) throw malformed('an empty extent in a BLOCK_STATUS chunk');
    extents.push(extent);
  }
  return { contextId: bytes.readUInt32BE(0), extents };
}
