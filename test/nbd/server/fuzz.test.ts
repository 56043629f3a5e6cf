// SPDX-License-Identifier: MIT
// The server against clients that send nonsense: random bytes, and real sessions with a few bytes changed, cut,
// doubled or moved. It never crashes, never hangs, and holds no memory when they are gone.

import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { COMMAND, COMMAND_FLAG, OPTION } from '#vmar/src/nbd/protocol/constants.js';
import { encodeClientFlags, encodeOption } from '#vmar/src/nbd/protocol/handshake.js';
import { encodeInfoRequest, encodeMetaContextRequest } from '#vmar/src/nbd/protocol/option-data.js';
import { HandshakeIntake } from '#vmar/src/nbd/server/handshake-intake.js';
import { NbdServer } from '#vmar/src/nbd/server/nbd-server.js';
import { RequestIntake } from '#vmar/src/nbd/server/request-intake.js';
import { type Random, seededRandom } from '../../base/random.js';
import { scratchDirectory } from '../../base/scratch.js';
import { RawClient, request } from './raw-client.js';

const directory = scratchDirectory();
const path = `${directory}/socket`;
const MIB = 1 << 20;
const SESSIONS = 300;
const seed = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
let server: NbdServer;

beforeAll(async () => {
  const bitmap = { lengthBytes: MIB, nextDirty: () => 0, nextClean: () => undefined };
  server = new NbdServer({
    exports: [{ name: 'disk', device: new MemoryDevice(MIB), readOnly: false, bitmaps: [{ name: 'b', bitmap }] }],
    limits: { connections: 1000 },
  });
  await server.listenUnix(path);
});

afterAll(() => server.close({ graceMillis: 100 }));

/** What a client sends from beginning to end. */
function session(random: Random): Buffer {
  const data = { exportName: 'disk', queries: ['base:allocation', 'qemu:dirty-bitmap:b'] };
  const parts = [
    encodeClientFlags(3),
    encodeOption(OPTION.structuredReply),
    encodeOption(OPTION.listMetaContext, encodeMetaContextRequest({ exportName: '', queries: [] })),
    encodeOption(OPTION.setMetaContext, encodeMetaContextRequest(data)),
    encodeOption(OPTION.list),
    encodeOption(OPTION.info, encodeInfoRequest({ exportName: '', wishes: [0, 1, 2, 3] })),
    random.oneIn(4)
      ? encodeOption(OPTION.exportName, Buffer.from('disk'))
      : encodeOption(OPTION.go, encodeInfoRequest({ exportName: 'disk', wishes: [3] })),
  ];
  for (let cookie = 0; cookie < 12; cookie++) {
    const [type, length] = [random.integer(0, 7), random.integer(0, 5000)];
    const wanted = { type: type === COMMAND.disconnect ? COMMAND.flush : type, cookie };
    const place = wanted.type === COMMAND.flush ? {} : { offset: random.integer(0, MIB - 5000), length };
    const flags = type === COMMAND.blockStatus ? COMMAND_FLAG.reqOne : random.integer(0, 1);
    parts.push(request({ ...wanted, ...place, flags }, type === COMMAND.write ? random.bytes(length) : undefined));
  }
  return Buffer.concat(parts);
}

function mutate(bytes: Buffer, random: Random): Buffer {
  let mutated = Buffer.from(bytes);
  for (let count = random.integer(1, 4); count > 0 && mutated.length > 0; count--) {
    const at = random.integer(0, mutated.length - 1);
    const end = Math.min(mutated.length, at + random.integer(1, 40));
    switch (random.integer(0, 4)) {
      case 0:
        mutated[at] = random.integer(0, 255);
        break;
      case 1:
        mutated.fill(0xff, at, Math.min(mutated.length, at + 4));
        break;
      case 2:
        mutated = Buffer.concat([mutated.subarray(0, at), mutated.subarray(end)]);
        break;
      case 3:
        mutated = Buffer.concat([mutated.subarray(0, end), mutated.subarray(at)]);
        break;
      default:
        mutated = mutated.subarray(0, at);
    }
  }
  return mutated;
}

/** Sends it all, in pieces of any size, then hangs up. Resolves when the connection is gone. */
function play(bytes: Buffer, random: Random): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.on('error', () => {});
    socket.on('close', () => resolve());
    socket.resume();
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, at + random.integer(1, 3000));
      socket.write(bytes.subarray(at, end));
      at = end;
    }
    if (random.oneIn(2)) socket.end();
    else socket.end(() => socket.destroy());
  });
}

async function stillServes(): Promise<void> {
  await expect.poll(() => server.connectionCount).toBe(0);
  await expect.poll(() => server.heldBytes).toBe(0);
  const one = new RawClient(path);
  await one.go('disk');
  await one.ask({ type: COMMAND.write, offset: 3, length: 2 }, Buffer.from('ok'));
  expect((await one.ask({ type: COMMAND.read, offset: 3, length: 2 })).data.toString()).toBe('ok');
  await one.close();
}

describe(`seed ${seed}:`, () => {
  it('random bytes', async () => {
    const random = seededRandom(seed);
    for (let count = 0; count < SESSIONS; count += 10) {
      const players = Array.from({ length: 10 }, () => {
        const start = session(random).subarray(0, random.oneIn(2) ? 0 : random.integer(0, 400));
        return play(Buffer.concat([start, random.bytes(random.integer(0, 5000))]), random);
      });
      await Promise.all(players);
    }
    await stillServes();
  });

  it('sessions that are slightly wrong', async () => {
    const random = seededRandom(seed + 1);
    for (let count = 0; count < SESSIONS; count += 10) {
      await Promise.all(Array.from({ length: 10 }, () => play(mutate(session(random), random), random)));
    }
    await stillServes();
  });

  it('options and requests are the same however the bytes are cut', () => {
    const random = seededRandom(seed + 2);
    for (let count = 0; count < 100; count++) {
      const bytes = random.oneIn(2) ? session(random) : mutate(session(random), random);
      expect(heard(bytes, random)).toEqual(heard(bytes));
      const requests = bytes.subarray(random.integer(0, bytes.length));
      const start = requests.indexOf(Buffer.from('25609513', 'hex'));
      if (start >= 0) expect(taken(requests.subarray(start), random)).toEqual(taken(requests.subarray(start)));
    }
  });
});

/** The bytes in one piece, or in many. */
function* cut(bytes: Buffer, random?: Random): Generator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const end = random === undefined ? bytes.length : at + random.integer(1, 50);
    yield bytes.subarray(at, end);
    at = end;
  }
}

/** What the handshake makes of the bytes, in one piece or in many. */
function heard(bytes: Buffer, random?: Random): unknown[] {
  const intake = new HandshakeIntake(1 << 16, 'flags');
  const pieces: unknown[] = [];
  try {
    for (const chunk of cut(bytes, random)) {
      intake.add(chunk);
      for (let piece = intake.next(); piece !== undefined; piece = intake.next()) pieces.push(piece);
    }
  } catch (error) {
    pieces.push(String(error));
  }
  return pieces;
}

/** What the transmission makes of them; every third request has to wait once. */
function taken(bytes: Buffer, random?: Random): unknown[] {
  const seen: unknown[] = [];
  let asked = 0;
  const intake = new RequestIntake({
    onRequest(wanted) {
      if (asked++ % 3 === 2) return 'wait';
      seen.push(wanted);
      if (wanted.type !== COMMAND.write) return 'taken';
      return wanted.lengthBytes > 0 && wanted.lengthBytes < 10_000 ? Buffer.alloc(wanted.lengthBytes) : 'skip';
    },
    onPayload: (wanted, payload) => void seen.push([wanted.cookieLow, payload]),
  });
  try {
    for (const chunk of cut(bytes, random)) {
      let room = intake.add(chunk);
      while (!room) room = intake.resume();
    }
  } catch (error) {
    seen.push(String(error));
  }
  return seen;
}
