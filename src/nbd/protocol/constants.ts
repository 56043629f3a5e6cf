// SPDX-License-Identifier: MIT
// Every number of the NBD protocol that goes over the wire. Names follow the protocol document.

/** "NBDMAGIC" */
export const GREETING_MAGIC_HIGH = 0x4e42444d;
export const GREETING_MAGIC_LOW = 0x41474943;
/** "IHAVEOPT" */
export const OPTION_MAGIC_HIGH = 0x49484156;
export const OPTION_MAGIC_LOW = 0x454f5054;
export const OPTION_REPLY_MAGIC_HIGH = 0x0003e889;
export const OPTION_REPLY_MAGIC_LOW = 0x045565a9;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

export const GREETING_BYTES = 18;
export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
export const STRUCTURED_REPLY_BYTES = 20;
/** Sent after the flags of an EXPORT_NAME reply unless NO_ZEROES was agreed on. */
export const EXPORT_NAME_ZEROES_BYTES = 124;
/** Size and flags, before those zeros. */
export const EXPORT_NAME_REPLY_BYTES = 10;

/** Both the server's handshake flags and the client's answer use these bits. */
export const HANDSHAKE_FLAG = { fixedNewstyle: 1 << 0, noZeroes: 1 << 1 } as const;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

export const OPTION_REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsupported: 0x80000001,
  errPolicy: 0x80000002,
  errInvalid: 0x80000003,
  errPlatform: 0x80000004,
  errTlsRequired: 0x80000005,
  errUnknown: 0x80000006,
  errShutdown: 0x80000007,
  errBlockSizeRequired: 0x80000008,
  errTooBig: 0x80000009,
} as const;

/** Reply types from here on are errors. */
export const OPTION_REPLY_ERROR = 0x80000000;

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const TRANSMISSION_FLAG = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendResize: 1 << 9,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
} as const;

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const COMMAND_FLAG = { fua: 1 << 0, noHole: 1 << 1, df: 1 << 2, reqOne: 1 << 3, fastZero: 1 << 4 } as const;

export const CHUNK_FLAG_DONE = 1;

export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

/** Chunk types with this bit are errors. */
export const CHUNK_ERROR = 0x8000;

/** Error numbers on the wire. They are Linux's, on every system. */
export const WIRE_ERROR = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

export const CONTEXT_ALLOCATION = 'base:allocation';
/** Followed by the bitmap's name. */
export const CONTEXT_BITMAP_PREFIX = 'qemu:dirty-bitmap:';
/** Bits of an extent of base:allocation. */
export const ALLOCATION = { hole: 1 << 0, zero: 1 << 1 } as const;
/** Bit of an extent of qemu:dirty-bitmap:NAME. */
export const BITMAP_DIRTY = 1 << 0;

/** What the protocol document lets a client send without asking. */
export const DEFAULT_MOST_PAYLOAD_BYTES = 32 << 20;
/** The longest string (export name, description, message) that the protocol allows. */
export const MOST_STRING_BYTES = 4096;
/** One extent of a block status payload: u32 length, u32 flags. */
export const STATUS_EXTENT_BYTES = 8;
