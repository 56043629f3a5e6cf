// SPDX-License-Identifier: MIT
// NBD's messages: golden bytes, there and back, and cut at every byte.

import { describe, expect, it } from 'vitest';
import { FailedError, UsageError } from '#vmar/src/base/errors.js';
import {
  decodeErrorChunk,
  decodeHole,
  decodeStatusChunk,
  encodeErrorChunk,
  encodeHole,
  encodeStatusChunk,
} from '#vmar/src/nbd/protocol/chunks.js';
import { CHUNK, WIRE_ERROR } from '#vmar/src/nbd/protocol/constants.js';
import {
  decodeExportNameReply,
  decodeGreeting,
  decodeOptionHeader,
  decodeOptionReplyHeader,
  encodeExportNameReply,
  encodeGreeting,
  encodeOption,
  encodeOptionReply,
} from '#vmar/src/nbd/protocol/handshake.js';
import {
  decodeInfoRequest,
  decodeInformation,
  decodeListedExport,
  decodeMetaContext,
  decodeMetaContextRequest,
  encodeInfoRequest,
  encodeInformation,
  encodeListedExport,
  encodeMetaContext,
  encodeMetaContextRequest,
} from '#vmar/src/nbd/protocol/option-data.js';
import {
  decodeChunkHeader,
  decodeRequest,
  decodeSimpleReply,
  encodeChunkHeader,
  encodeRequest,
  encodeSimpleReply,
} from '#vmar/src/nbd/protocol/requests.js';
import { wireErrorName, wireErrorOf } from '#vmar/src/nbd/protocol/wire-errors.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const refused = expect.objectContaining({ code: 'nbd-protocol' });

describe('bytes on the wire are those of the protocol document:', () => {
  it('greeting', () => {
    expect(encodeGreeting(3).toString('latin1')).toBe('NBDMAGICIHAVEOPT\0\x03');
  });

  it('option and reply', () => {
    expect(hex(encodeOption(7, Buffer.from('ab')))).toBe('49484156454f505400000007000000026162');
    expect(hex(encodeOptionReply(7, 1))).toBe('0003e889045565a9000000070000000100000000');
  });

  it('request', () => {
    const request = {
      flags: 1,
      type: 6,
      cookieHigh: 0xfedcba98,
      cookieLow: 1,
      offsetBytes: 2 ** 40 + 5,
      lengthBytes: 9,
    };
    const bytes = Buffer.alloc(30);
    encodeRequest(request, bytes, 2);
    expect(hex(bytes)).toBe('00002560951300010006fedcba9800000001000001000000000500000009');
    expect(decodeRequest(bytes, 2)).toEqual(request);
  });

  it('replies', () => {
    const bytes = Buffer.alloc(36);
    encodeSimpleReply({ cookieHigh: 1, cookieLow: 2 }, 28, bytes, 0);
    const header = { flags: 1, type: 0x8001, cookieHigh: 3, cookieLow: 4, lengthBytes: 6 };
    encodeChunkHeader(header, bytes, 16);
    expect(hex(bytes)).toBe('674466980000001c0000000100000002668e33ef00018001000000030000000400000006');
    expect(decodeSimpleReply(bytes, 0)).toEqual({ error: 28, cookieHigh: 1, cookieLow: 2 });
    expect(decodeChunkHeader(bytes, 16)).toEqual(header);
  });

  it('the reply to EXPORT_NAME has 124 zeros unless they are waived', () => {
    const size = { sizeBytes: 2 ** 41, transmissionFlags: 5 };
    expect(hex(encodeExportNameReply(size, true))).toBe('00000200000000000005');
    expect(hex(encodeExportNameReply(size, false))).toBe(`00000200000000000005${'00'.repeat(124)}`);
    expect(decodeExportNameReply(encodeExportNameReply(size, false))).toEqual(size);
  });
});

/** Encoded value, its decoder, and what comes out. */
const MESSAGES: readonly (readonly [
  name: string,
  bytes: Uint8Array,
  decode: (b: Uint8Array) => unknown,
  value: unknown,
])[] = [
  ['greeting', encodeGreeting(3), decodeGreeting, 3],
  ['option', encodeOption(9), decodeOptionHeader, { option: 9, lengthBytes: 0 }],
  [
    'option reply',
    encodeOptionReply(9, 0x80000001),
    decodeOptionReplyHeader,
    { option: 9, type: 0x80000001, lengthBytes: 0 },
  ],
  ...[
    { exportName: 'dïsk', wishes: [3, 1] },
    { exportName: '', wishes: [] },
  ].map((value) => ['info request', encodeInfoRequest(value), decodeInfoRequest, value] as const),
  ...[
    { kind: 'export', sizeBytes: 2 ** 50, transmissionFlags: 0xfff } as const,
    { kind: 'block-size', leastBytes: 1, preferredBytes: 4096, mostBytes: 1 << 25 } as const,
  ].map((value) => ['information', encodeInformation(value), decodeInformation, value] as const),
  ...[
    { exportName: 'a', queries: ['base:allocation', 'qemu:'] },
    { exportName: '', queries: [] },
  ].map((value) => ['context request', encodeMetaContextRequest(value), decodeMetaContextRequest, value] as const),
  ['hole', encodeHole({ offsetBytes: 2 ** 33, lengthBytes: 8 }), decodeHole, { offsetBytes: 2 ** 33, lengthBytes: 8 }],
  [
    'error',
    encodeErrorChunk({ error: 5, message: 'bad' }),
    (bytes) => decodeErrorChunk(CHUNK.error, bytes),
    { error: 5, message: 'bad' },
  ],
  [
    'error at an offset',
    encodeErrorChunk({ error: 5, message: '', offsetBytes: 77 }),
    (bytes) => decodeErrorChunk(CHUNK.errorOffset, bytes),
    { error: 5, message: '', offsetBytes: 77 },
  ],
  [
    'status',
    encodeStatusChunk({ contextId: 4, extents: [{ lengthBytes: 512, flags: 3 }] }),
    decodeStatusChunk,
    { contextId: 4, extents: [{ lengthBytes: 512, flags: 3 }] },
  ],
];

describe('every message', () => {
  it.each(MESSAGES)('%s comes back as it was', (_name, bytes, decode, value) => {
    expect(decode(bytes)).toEqual(value);
  });

  it.each(MESSAGES)('%s is refused when it is cut', (_name, bytes, decode) => {
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decode(bytes.subarray(0, length)), `${length} bytes`).toThrow(refused);
    }
  });
});

describe('messages whose end is the end of their data', () => {
  it.each([
    [encodeMetaContext({ id: 7, name: 'base:allocation' }), decodeMetaContext, { id: 7, name: 'base:allocation' }],
    [encodeListedExport({ name: 'a', description: 'b c' }), decodeListedExport, { name: 'a', description: 'b c' }],
    [encodeInformation({ kind: 'description', text: 'x' }), decodeInformation, { kind: 'description', text: 'x' }],
    [encodeInformation({ kind: 'unknown', type: 99 }), decodeInformation, { kind: 'unknown', type: 99 }],
  ])('come back as they were', (bytes, decode, value) => {
    expect(decode(bytes)).toEqual(value);
  });
});

describe('refused:', () => {
  it('numbers of queries and wishes that cannot be', () => {
    const queries = encodeMetaContextRequest({ exportName: '', queries: [] });
    queries.writeUInt32BE(0xffffffff, 4);
    expect(() => decodeMetaContextRequest(queries)).toThrow(refused);
    const wishes = encodeInfoRequest({ exportName: '', wishes: [] });
    wishes.writeUInt16BE(0xffff, 4);
    expect(() => decodeInfoRequest(wishes)).toThrow(refused);
  });

  it('strings too long, with NUL, or not UTF-8', () => {
    for (const name of ['x'.repeat(4097), 'a\0b']) {
      expect(() => decodeInfoRequest(encodeInfoRequest({ exportName: name, wishes: [] }))).toThrow(refused);
    }
    const bytes = encodeInfoRequest({ exportName: 'ab', wishes: [] });
    bytes[4] = 0xff;
    expect(() => decodeInfoRequest(bytes)).toThrow(refused);
  });

  it('empty extents', () => {
    expect(() =>
      decodeStatusChunk(encodeStatusChunk({ contextId: 1, extents: [{ lengthBytes: 0, flags: 0 }] })),
    ).toThrow(refused);
  });

  it('a request with a wrong magic number', () => {
    expect(() => decodeRequest(Buffer.alloc(28), 0)).toThrow(refused);
  });
});

it('a long message is cut between characters', () => {
  const { message } = decodeErrorChunk(CHUNK.error, encodeErrorChunk({ error: 5, message: 'ü'.repeat(3000) }));
  expect(message).toBe('ü'.repeat(2048));
});

it('errors of devices have their number', () => {
  expect(wireErrorOf(new FailedError('no-space', ''))).toBe(WIRE_ERROR.ENOSPC);
  expect(wireErrorOf(new UsageError('read-only', ''))).toBe(WIRE_ERROR.EPERM);
  expect(wireErrorOf(new UsageError('out-of-range', ''))).toBe(WIRE_ERROR.EINVAL);
  expect(wireErrorOf(new FailedError('read-failed', ''))).toBe(WIRE_ERROR.EIO);
  expect(wireErrorOf(new FailedError('wrapped', '', { cause: new FailedError('no-space', '') }))).toBe(
    WIRE_ERROR.ENOSPC,
  );
  expect(wireErrorOf(Object.assign(new Error(), { code: 'ENOSPC' }))).toBe(WIRE_ERROR.ENOSPC);
  expect(wireErrorOf('nonsense')).toBe(WIRE_ERROR.EIO);
  expect([wireErrorName(28), wireErrorName(200)]).toEqual(['ENOSPC', 'error 200']);
});
