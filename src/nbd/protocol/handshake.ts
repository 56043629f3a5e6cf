// SPDX-License-Identifier: MIT
// The first messages: the server's greeting, the client's flags, and the headers of options and their replies.

import { ByteReader, malformed, writeUint64 } from './byte-reader.js';
import {
  CLIENT_FLAGS_BYTES,
  EXPORT_NAME_REPLY_BYTES,
  EXPORT_NAME_ZEROES_BYTES,
  GREETING_BYTES,
  GREETING_MAGIC_HIGH,
  GREETING_MAGIC_LOW,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
} from './constants.js';

export function encodeGreeting(handshakeFlags: number): Buffer {
  const bytes = Buffer.alloc(GREETING_BYTES);
  bytes.writeUInt32BE(GREETING_MAGIC_HIGH, 0);
  bytes.writeUInt32BE(GREETING_MAGIC_LOW, 4);
  bytes.writeUInt32BE(OPTION_MAGIC_HIGH, 8);
  bytes.writeUInt32BE(OPTION_MAGIC_LOW, 12);
  bytes.writeUInt16BE(handshakeFlags, 16);
  return bytes;
}

/** The handshake flags; throws for a server that is none, or of the old style. */
export function decodeGreeting(bytes: Uint8Array): number {
  const reader = new ByteReader(bytes, 'the greeting');
  if (reader.uint32() !== GREETING_MAGIC_HIGH || reader.uint32() !== GREETING_MAGIC_LOW) {
    throw malformed('it does not greet as an NBD server');
  }
  if (reader.uint32() !== OPTION_MAGIC_HIGH || reader.uint32() !== OPTION_MAGIC_LOW) {
    throw malformed('it is an NBD server of the old style, without options');
  }
  const flags = reader.uint16();
  reader.end();
  return flags;
}

export function encodeClientFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(CLIENT_FLAGS_BYTES);
  bytes.writeUInt32BE(flags, 0);
  return bytes;
}

export interface OptionHeader {
  readonly option: number;
  readonly lengthBytes: number;
}

/** A whole option: header and data. */
export function encodeOption(option: number, data: Uint8Array = new Uint8Array()): Buffer {
  const bytes = Buffer.alloc(OPTION_HEADER_BYTES + data.byteLength);
  bytes.writeUInt32BE(OPTION_MAGIC_HIGH, 0);
  bytes.writeUInt32BE(OPTION_MAGIC_LOW, 4);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.byteLength, 12);
  bytes.set(data, OPTION_HEADER_BYTES);
  return bytes;
}

export function decodeOptionHeader(bytes: Uint8Array): OptionHeader {
  const reader = new ByteReader(bytes, 'an option');
  if (reader.uint32() !== OPTION_MAGIC_HIGH || reader.uint32() !== OPTION_MAGIC_LOW) {
    throw malformed('an option without its magic number');
  }
  return { option: reader.uint32(), lengthBytes: reader.uint32() };
}

export interface OptionReplyHeader {
  readonly option: number;
  readonly type: number;
  readonly lengthBytes: number;
}

/** A whole reply to an option: header and data. */
export function encodeOptionReply(option: number, type: number, data: Uint8Array = new Uint8Array()): Buffer {
  const bytes = Buffer.alloc(OPTION_REPLY_HEADER_BYTES + data.byteLength);
  bytes.writeUInt32BE(OPTION_REPLY_MAGIC_HIGH, 0);
  bytes.writeUInt32BE(OPTION_REPLY_MAGIC_LOW, 4);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(data.byteLength, 16);
  bytes.set(data, OPTION_REPLY_HEADER_BYTES);
  return bytes;
}

export function decodeOptionReplyHeader(bytes: Uint8Array): OptionReplyHeader {
  const reader = new ByteReader(bytes, 'the reply to an option');
  if (reader.uint32() !== OPTION_REPLY_MAGIC_HIGH || reader.uint32() !== OPTION_REPLY_MAGIC_LOW) {
    throw malformed('the reply to an option has no magic number');
  }
  return { option: reader.uint32(), type: reader.uint32(), lengthBytes: reader.uint32() };
}

export interface ExportSize {
  readonly sizeBytes: number;
  readonly transmissionFlags: number;
}

/** The answer to EXPORT_NAME, which has no header. */
export function encodeExportNameReply(size: ExportSize, noZeroes: boolean): Buffer {
  const bytes = Buffer.alloc(EXPORT_NAME_REPLY_BYTES + (noZeroes ? 0 : EXPORT_NAME_ZEROES_BYTES));
  writeUint64(bytes, size.sizeBytes, 0);
  bytes.writeUInt16BE(size.transmissionFlags, 8);
  return bytes;
}

export function decodeExportNameReply(bytes: Uint8Array): ExportSize {
  const reader = new ByteReader(bytes, 'the reply to EXPORT_NAME');
  return { sizeBytes: reader.uint64(), transmissionFlags: reader.uint16() };
}
