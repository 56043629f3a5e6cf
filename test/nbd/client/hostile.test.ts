// SPDX-License-Identifier: MIT
// Servers that break the protocol: an error that names them, never a crash, a hang, or memory without bounds.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { VmarError } from '#vmar/src/base/errors.js';
import { type NbdDevice, type NbdDeviceOptions, openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { encodeErrorChunk, encodeHole, encodeStatusChunk } from '#vmar/src/nbd/protocol/chunks.js';
import { CHUNK, COMMAND, OPTION, OPTION_REPLY, TRANSMISSION_FLAG } from '#vmar/src/nbd/protocol/constants.js';
import { encodeGreeting, encodeOptionReply } from '#vmar/src/nbd/protocol/handshake.js';
import { encodeInformation, encodeMetaContext } from '#vmar/src/nbd/protocol/option-data.js';
import { encodeSimpleReply, type NbdRequest } from '#vmar/src/nbd/protocol/requests.js';
import { seededRandom } from '../../base/random.js';
import { scratchDirectory } from '../../base/scratch.js';
import { type Behaviour, CONTEXT, chunk, data, goodAnswer, goodOption, HostileServer, SIZE } from './hostile-server.js';

const directory = scratchDirectory();
let count = 0;

async function against(
  behaviour: Behaviour,
  act: (device: NbdDevice) => Promise<void>,
  options: Partial<NbdDeviceOptions> = {},
): Promise<void> {
  const socket = join(directory, `h${count++}`);
  const server = await HostileServer.start(socket, behaviour);
  try {
    const device = await openNbdDevice(server.uri, {
      readOnly: false,
      timeoutMillis: 150,
      reconnectMillis: 100,
      ...options,
    });
    try {
      await act(device);
    } finally {
      await device.close();
    }
  } finally {
    await server.stop();
    rmSync(socket, { force: true });
  }
}

const read = async (device: NbdDevice): Promise<void> => {
  await device.read(4096, new Uint8Array(8192));
};

const broken = { code: 'nbd-protocol', exitStatus: 1, object: expect.stringContaining('nbd+unix://') };
const NONE: Buffer = Buffer.alloc(0);
const u32 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value, 4 * index);
  return bytes;
};
const option = (wanted: number, type: number, bytes: Buffer, then: Buffer = NONE): Behaviour => ({
  option: (given) => (given === wanted ? Buffer.concat([encodeOptionReply(given, type, bytes), then]) : undefined),
});
const ack = (given: number): Buffer => encodeOptionReply(given, OPTION_REPLY.ack);
const exportOf = (sizeBytes: number, transmissionFlags = 1): Buffer =>
  encodeInformation({ kind: 'export', sizeBytes, transmissionFlags });
const blocks = (leastBytes: number, mostBytes: number): Buffer =>
  encodeInformation({ kind: 'block-size', leastBytes, preferredBytes: 4096, mostBytes });

describe('a handshake that breaks the protocol:', () => {
  it.each<[string, Behaviour]>([
    ['noise', { greeting: () => Buffer.alloc(18, 0x55) }],
    ['the old style', { greeting: () => Buffer.from(`4e42444d4147494300420281861253${'00'.repeat(137)}`, 'hex') }],
    ['a flood behind the greeting', { greeting: () => Buffer.concat([encodeGreeting(3), Buffer.alloc(8 << 20)]) }],
    ['a reply without its magic', { option: () => Buffer.alloc(20) }],
    ['a reply to another option', { option: () => ack(99) }],
    ['a reply of 4 GiB', { option: (given) => Buffer.concat([ack(given).subarray(0, 16), u32(0xffffffff)]) }],
    [
      'replies without an end',
      { option: (given) => Buffer.concat(Array(100).fill(encodeOptionReply(given, 3, NONE))) },
    ],
    ['no size', option(OPTION.go, OPTION_REPLY.ack, NONE)],
    ['a size past 2^53', option(OPTION.go, OPTION_REPLY.info, exportOf(2 ** 60), ack(OPTION.go))],
    ['information cut short', option(OPTION.go, OPTION_REPLY.info, exportOf(1).subarray(0, 7), ack(OPTION.go))],
    ['information of one byte', option(OPTION.go, OPTION_REPLY.info, Buffer.alloc(1), ack(OPTION.go))],
    ['blocks of 0', option(OPTION.go, OPTION_REPLY.info, blocks(0, 4096))],
    ['blocks of 3', option(OPTION.go, OPTION_REPLY.info, blocks(3, 4096))],
    ['blocks of 2 GiB', option(OPTION.go, OPTION_REPLY.info, blocks(2 ** 31, 2 ** 31))],
    ['blocks whose most is less', option(OPTION.go, OPTION_REPLY.info, blocks(4096, 512))],
    [
      'a context nobody asked for',
      option(OPTION.setMetaContext, OPTION_REPLY.metaContext, encodeMetaContext({ id: 1, name: 'x:y' })),
    ],
    ['a context that is cut', option(OPTION.setMetaContext, OPTION_REPLY.metaContext, Buffer.alloc(3))],
    [
      'a name that is not UTF-8',
      option(OPTION.setMetaContext, OPTION_REPLY.metaContext, Buffer.from([0, 0, 0, 1, 0xff, 0xfe])),
    ],
  ])('%s', async (_, behaviour) => {
    const full: Behaviour = {
      ...behaviour,
      // Whatever comes after the bad reply is as it should be.
      option: (given) => {
        const bad = behaviour.option?.(given);
        return bad === undefined ? undefined : Buffer.concat([bad, goodOption(given)]);
      },
    };
    await expect(against(full, read)).rejects.toMatchObject(broken);
  });

  it('one that hangs up everywhere', async () => {
    const hangUp: Behaviour = { option: () => NONE };
    await expect(against(hangUp, read)).rejects.toMatchObject({ code: 'nbd-unreachable' });
  });

  it.each([
    [OPTION_REPLY.errUnknown, 'no-such-export'],
    [OPTION_REPLY.errTlsRequired, 'tls-required'],
    [OPTION_REPLY.errPolicy, 'nbd-refused'],
    [0xffffffff, 'nbd-refused'],
  ])('an honest refusal, with a message to be cleaned: %i', async (type, code) => {
    const behaviour = option(OPTION.go, type, Buffer.from('no\u0007\u001b[31m way'));
    await expect(against(behaviour, read)).rejects.toSatisfy((error: VmarError) => {
      expect(error).toMatchObject({ code });
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
      expect(error.message).not.toMatch(/[\x00-\x1f]/);
      return true;
    });
  });
});

/** As an answer to reads only. */
const onRead = (answer: (request: NbdRequest) => Buffer): Behaviour => ({
  request: (request) => (request.type === COMMAND.read ? answer(request) : undefined),
});
const onStatus = (answer: (request: NbdRequest) => Buffer): Behaviour => ({
  request: (request) => (request.type === COMMAND.blockStatus ? answer(request) : undefined),
});
const simple = (request: NbdRequest, error: number): Buffer => {
  const bytes = Buffer.alloc(16);
  encodeSimpleReply(request, error, bytes, 0);
  return bytes;
};
const header = (request: NbdRequest, type: number, lengthBytes: number): Buffer => {
  const bytes = chunk(request, type, NONE);
  bytes.writeUInt32BE(lengthBytes, 16);
  return bytes;
};

describe('an answer to a read that breaks the protocol:', () => {
  it.each<[string, (request: NbdRequest) => Buffer]>([
    ['noise', () => Buffer.alloc(64, 0x77)],
    ['another cookie', (request) => data({ ...request, cookieLow: request.cookieLow + 5 })],
    ['a cookie with high bits', (request) => data({ ...request, cookieHigh: 1 })],
    ['a simple reply with data', (request) => Buffer.concat([simple(request, 0), Buffer.alloc(8192)])],
    ['data past the request', (request) => data(request, request.offsetBytes, request.lengthBytes + 1)],
    ['data before the request', (request) => data(request, request.offsetBytes - 1, 10)],
    ['data far away', (request) => data(request, 2 ** 52, 10)],
    ['data twice', (request) => Buffer.concat([data(request, undefined, 100, 0), data(request, undefined, 100)])],
    ['too little', (request) => data(request, request.offsetBytes, request.lengthBytes - 1)],
    [
      'a gap',
      (request) => Buffer.concat([data(request, undefined, 100, 0), data(request, request.offsetBytes + 200, 7992)]),
    ],
    ['nothing at all', (request) => chunk(request, CHUNK.none, NONE)],
    ['an empty chunk that is not the last', (request) => chunk(request, CHUNK.none, NONE, 0)],
    ['a chunk of 4 GiB', (request) => header(request, CHUNK.offsetData, 0xffffffff)],
    ['an error of 4 GiB', (request) => header(request, CHUNK.error, 0xffffffff)],
    [
      'a hole of 4 GiB',
      (request) => chunk(request, CHUNK.offsetHole, encodeHole({ ...request, lengthBytes: 0xffffffff })),
    ],
    ['a hole of nothing', (request) => chunk(request, CHUNK.offsetHole, encodeHole({ ...request, lengthBytes: 0 }))],
    ['a hole that is cut', (request) => chunk(request, CHUNK.offsetHole, Buffer.alloc(11))],
    ['data without an offset', (request) => chunk(request, CHUNK.offsetData, Buffer.alloc(8))],
    ['an error that is none', (request) => chunk(request, CHUNK.error, encodeErrorChunk({ error: 0, message: '' }))],
    ['an error whose message is cut', (request) => chunk(request, CHUNK.error, Buffer.from('00000005ffff', 'hex'))],
    ['a block status', (request) => chunk(request, CHUNK.blockStatus, u32(CONTEXT, 1, 0))],
    ['a type nobody knows', (request) => chunk(request, 77, NONE)],
    [
      'errors without an end',
      (request) =>
        Buffer.concat(Array(1000).fill(chunk(request, CHUNK.error, encodeErrorChunk({ error: 5, message: 'x' }), 0))),
    ],
  ])('%s', async (_, answer) => {
    await expect(against(onRead(answer), read)).rejects.toMatchObject(broken);
  });

  it('it poisons all that is under way, and what comes later', () =>
    against(
      onRead(() => Buffer.alloc(64)),
      async (device) => {
        const reads = [0, 4096, 8192].map((at) => device.read(at, new Uint8Array(4096)));
        for (const each of reads) await expect(each).rejects.toMatchObject(broken);
        await expect(device.blockStatus(0, SIZE)).rejects.toMatchObject(broken);
      },
    ));

  it.each([0, TRANSMISSION_FLAG.canMultiConn])('one that hangs up at each read is left in the end, flags %i', (flags) =>
    against(
      { hangsUpAt: (request) => request.type === COMMAND.read, transmissionFlags: flags },
      async (device) => {
        await expect(read(device)).rejects.toMatchObject({ code: 'nbd-lost' });
        await device.flush();
      },
      { reconnectMillis: 60_000, connections: 3 },
    ),
  );

  it('an answer that is given twice', () =>
    against(
      onRead((request) => Buffer.concat([goodAnswer(request), goodAnswer(request)])),
      async (device) => {
        await device.read(0, new Uint8Array(4096));
        await expect(device.blockStatus(0, SIZE)).rejects.toMatchObject(broken);
      },
    ));
});

describe('an honest answer is taken in any shape:', () => {
  it('chunks out of order, holes and all in single bytes', async () => {
    const answer = (request: NbdRequest): Buffer =>
      Buffer.concat([
        data(request, request.offsetBytes + 4000, 4192, 0),
        chunk(request, CHUNK.offsetHole, encodeHole({ offsetBytes: request.offsetBytes + 100, lengthBytes: 3900 }), 0),
        data(request, request.offsetBytes, 100, 0),
        chunk(request, CHUNK.none, NONE),
      ]);
    const into = new Uint8Array(8192).fill(1);
    await against(onRead(answer), (device) => device.read(4096, into));
    expect([into[0], into[99], into[100], into[3999], into[4000], into[8191]]).toEqual([0xab, 0xab, 0, 0, 0xab, 0xab]);
  });

  it('an error in the middle fails that read only', () =>
    against(
      onRead((request) =>
        request.offsetBytes === 0
          ? Buffer.concat([
              data(request, 0, 10, 0),
              chunk(
                request,
                CHUNK.errorOffset,
                encodeErrorChunk({ error: 5, message: 'bad\nsector', offsetBytes: 10 }),
              ),
            ])
          : goodAnswer(request),
      ),
      async (device) => {
        const [bad, good] = await Promise.allSettled([
          device.read(0, new Uint8Array(4096)),
          device.read(4096, new Uint8Array(4096)),
        ]);
        expect(bad).toMatchObject({ status: 'rejected', reason: { code: 'read-failed' } });
        expect(good.status).toBe('fulfilled');
      },
    ));
});

describe('a block status that breaks the protocol:', () => {
  const status = (...extents: [number, number][]) =>
    encodeStatusChunk({ contextId: CONTEXT, extents: extents.map(([lengthBytes, flags]) => ({ lengthBytes, flags })) });
  it.each<[string, (request: NbdRequest) => Buffer]>([
    ['an empty extent', (request) => chunk(request, CHUNK.blockStatus, status([0, 0]))],
    ['no extents', (request) => chunk(request, CHUNK.blockStatus, u32(CONTEXT))],
    ['half an extent', (request) => chunk(request, CHUNK.blockStatus, u32(CONTEXT, 1, 0, 1))],
    ['another context', (request) => chunk(request, CHUNK.blockStatus, u32(99, 4096, 0))],
    ['no context', (request) => chunk(request, CHUNK.none, NONE)],
    ['4 GiB of them', (request) => header(request, CHUNK.blockStatus, 0xfffffffc)],
    [
      'the same twice',
      (request) =>
        Buffer.concat([
          chunk(request, CHUNK.blockStatus, status([1, 0]), 0),
          chunk(request, CHUNK.blockStatus, status([1, 0])),
        ]),
    ],
    ['data', (request) => data(request, 0, 100)],
    ['a simple reply', (request) => simple(request, 0)],
  ])('%s', async (_, answer) => {
    const act = async (device: NbdDevice): Promise<void> => void (await device.blockStatus(0, SIZE));
    await expect(against(onStatus(answer), act)).rejects.toMatchObject(broken);
  });

  it('a million extents of one byte: no more are kept than make sense', () => {
    const runs = Array.from({ length: 500_000 }, (_, at): [number, number] => [1, at % 2 === 0 ? 0 : 3]);
    const extents = runs.map(([lengthBytes, flags]) => ({ lengthBytes, flags }));
    const payload = encodeStatusChunk({ contextId: CONTEXT, extents });
    const answer = (request: NbdRequest): Buffer => chunk(request, CHUNK.blockStatus, payload);
    return against(onStatus(answer), async (device) => {
      expect(await device.blockStatus(0, SIZE)).toHaveLength(65536);
    });
  });

  it('one byte at a time has an end', () =>
    against(
      onStatus((request) => chunk(request, CHUNK.blockStatus, status([1, 3]))),
      async (device) => {
        let answers = 0;
        for (let at = 0; at < SIZE; answers++) {
          const extents = await device.blockStatus(at, SIZE - at);
          at += extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
        }
        expect(answers).toBeLessThan(300);
      },
    ));

  it('the last extent may go past the end', () =>
    against(
      onStatus((request) => chunk(request, CHUNK.blockStatus, status([2 ** 31, 3]))),
      async (device) => {
        expect(await device.blockStatus(100, 1000)).toEqual([{ offsetBytes: 100, lengthBytes: 1000, state: 'zero' }]);
      },
    ));
});

describe('chance', () => {
  const seed = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

  async function session(device: NbdDevice): Promise<void> {
    await device.blockStatus(0, SIZE);
    await Promise.all([0, 1, 2].map((at) => device.read(at * 8192, new Uint8Array(8192))));
    await device.write(0, new Uint8Array(512).fill(1));
    await device.writeZeroes(4096, 4096);
    await device.flush();
  }

  it.each(Array.from({ length: 100 }, (_, index) => seed + index))('mutated answers, seed %i', async (each) => {
    const random = seededRandom(each);
    const mangle = (bytes: Buffer): Buffer => {
      if (!random.oneIn(6)) return bytes;
      const mangled = Buffer.from(bytes);
      // Mostly in headers: the data may be anything.
      const near = Math.min(bytes.length, random.oneIn(3) ? bytes.length : 64);
      switch (random.integer(0, 3)) {
        case 0:
          for (let flips = random.integer(1, 3); flips > 0; flips--) {
            mangled[random.integer(0, near - 1)]! ^= 1 << random.integer(0, 7);
          }
          return mangled;
        case 1:
          return mangled.subarray(0, random.integer(0, near));
        case 2:
          return Buffer.concat([
            mangled.subarray(0, near),
            random.bytes(random.integer(1, 40)),
            mangled.subarray(near),
          ]);
        default:
          return Buffer.from(random.bytes(random.integer(1, 200)));
      }
    };
    const outcome = await against({ mangle }, session).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (outcome === undefined) return;
    expect(outcome, String((outcome as Error).stack)).toBeInstanceOf(VmarError);
    expect(outcome).toMatchObject({ object: expect.stringContaining('nbd+unix://') });
    expect((outcome as VmarError).code).not.toBe('bug');
  });
});
