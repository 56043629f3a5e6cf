// SPDX-License-Identifier: MIT
// Random requests over several connections at once, against a plain array of bytes.

import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BlockNode } from '#vmar/src/block/block-node.js';
import type { BlockDevice } from '#vmar/src/block/device.js';
import { openFileDevice } from '#vmar/src/block/file-device.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { COMMAND, COMMAND_FLAG } from '#vmar/src/nbd/protocol/constants.js';
import { type Random, seededRandom } from '../../base/random.js';
import { RawClient, request, type Wanted } from './raw-client.js';
import { serving } from './serving.js';

const { serve, directory } = serving();
const seed = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Each connection has a part of the disk to itself: what overlaps in flight has no defined outcome. */
const PART_BYTES = 1_500_007;
const CONNECTIONS = 4;
const ROUNDS = 40;

interface Expected {
  /** What a READ gives, or nothing to compare. */
  readonly data: Buffer | undefined;
}

/** Requests in one part that do not touch each other, with what is to come back; the model is brought up to date. */
function round(part: number, model: Buffer, random: Random): { bytes: Buffer; expected: Map<number, Expected> } {
  const messages: Buffer[] = [];
  const expected = new Map<number, Expected>();
  let at = part * PART_BYTES + random.integer(0, 5000);
  const end = (part + 1) * PART_BYTES;
  for (let cookie = 0; at < end; cookie++) {
    const longest = random.oneIn(8) ? 900_000 : random.oneIn(2) ? 40_000 : 600;
    const length = Math.min(end - at, random.integer(0, longest));
    const wanted: Wanted = { type: COMMAND.read, cookie, offset: at, length };
    const fua = random.oneIn(20) ? COMMAND_FLAG.fua : 0;
    switch (random.integer(0, 4)) {
      case 0:
      case 1: {
        const bytes = random.bytes(length);
        model.set(bytes, at);
        messages.push(request({ ...wanted, type: COMMAND.write, flags: fua }, bytes));
        expected.set(cookie, { data: undefined });
        break;
      }
      case 2:
        model.fill(0, at, at + length);
        messages.push(
          request({ ...wanted, type: COMMAND.writeZeroes, flags: random.oneIn(2) ? COMMAND_FLAG.noHole : fua }),
        );
        expected.set(cookie, { data: undefined });
        break;
      default:
        messages.push(request(wanted));
        expected.set(cookie, { data: Buffer.from(model.subarray(at, at + length)) });
    }
    at += length + random.integer(0, 10_000);
  }
  return { bytes: Buffer.concat(messages), expected };
}

async function play(client: RawClient, part: number, model: Buffer, random: Random): Promise<void> {
  for (let count = 0; count < ROUNDS; count++) {
    const { bytes, expected } = round(part, model, random);
    client.send(bytes);
    for (let left = expected.size; left > 0; left--) {
      const reply = await client.reply((cookie) => expected.get(cookie)?.data?.length ?? 0);
      const wanted = expected.get(reply.cookie);
      expect(wanted, `an answer to ${reply.cookie}, once`).toBeDefined();
      expected.delete(reply.cookie);
      expect(reply.error).toBe(0);
      if (wanted?.data && !wanted.data.equals(reply.data)) throw new Error(`wrong data for ${reply.cookie}`);
    }
  }
}

describe(`seed ${seed}:`, () => {
  const lengthBytes = CONNECTIONS * PART_BYTES;
  const devices: readonly (readonly [string, () => Promise<BlockDevice> | BlockDevice])[] = [
    ['memory', () => new MemoryDevice(lengthBytes)],
    [
      'a file in a graph',
      async () => {
        const file = join(directory, 'file');
        writeFileSync(file, '');
        truncateSync(file, lengthBytes);
        return new BlockNode(await openFileDevice(file, { readOnly: false }));
      },
    ],
  ];

  it.each(devices)('an NBD export of %s is an array of bytes', async (_name, open) => {
    const device = await open();
    const limits = {
      requestsPerConnection: 24,
      bytesPerConnection: 1 << 20,
      bytesPerServer: 3 << 20,
      payloadBytes: 1 << 20,
    };
    const { socketPath, server } = await serve(device, { limits });
    const model = Buffer.alloc(lengthBytes);
    const clients = Array.from({ length: CONNECTIONS }, () => new RawClient(socketPath));
    await Promise.all(
      clients.map(async (client, part) => {
        await client.go('', part % 2 === 0);
        await play(client, part, model, seededRandom(seed + part));
      }),
    );
    const all = Buffer.alloc(lengthBytes);
    await device.read(0, all);
    expect(all.equals(model)).toBe(true);
    expect(server.heldBytes).toBe(0);
    for (const client of clients) await client.close();
  });
});
