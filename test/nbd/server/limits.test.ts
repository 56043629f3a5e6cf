// SPDX-License-Identifier: MIT
// What clients cannot do to the server and to each other, and how it all ends.

import { existsSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { ManualClock } from '#vmar/src/base/clock.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { COMMAND } from '#vmar/src/nbd/protocol/constants.js';
import { MemoryBudget } from '#vmar/src/nbd/server/memory-budget.js';
import { NbdServer } from '#vmar/src/nbd/server/nbd-server.js';
import { RawClient, request } from './raw-client.js';
import { serving } from './serving.js';
import { SlowDevice } from './slow-device.js';

const { serve } = serving();
const MIB = 1 << 20;
const clients: RawClient[] = [];

async function chosen(path: string): Promise<RawClient> {
  const made = new RawClient(path);
  clients.push(made);
  await made.go();
  return made;
}

afterEach(async () => {
  for (const one of clients.splice(0)) await one.close();
});

/** Lets everything happen that is under way. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
}

describe('back-pressure:', () => {
  it('no more requests of one client than the limit reach the device, and all are answered', async () => {
    const device = new SlowDevice(MIB);
    const { socketPath } = await serve(device, { limits: { requestsPerConnection: 5 } });
    const one = await chosen(socketPath);
    for (let cookie = 0; cookie < 50; cookie++) one.send(request({ type: COMMAND.read, length: 100, cookie }));
    await settle();
    expect(device.waiting).toHaveLength(5);
    device.letGo();
    const cookies = [];
    for (let count = 0; count < 50; count++) cookies.push((await one.reply(() => 100)).cookie);
    expect(cookies.sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, index) => index));
  });

  it('no more bytes of one client, or of all, than the limits', async () => {
    const device = new SlowDevice(8 * MIB);
    const limits = { payloadBytes: MIB, bytesPerConnection: 2 * MIB, bytesPerServer: 5 * MIB };
    const { socketPath, server } = await serve(device, { limits });
    const all = await Promise.all(Array.from({ length: 4 }, () => chosen(socketPath)));
    for (const one of all) {
      for (let cookie = 0; cookie < 4; cookie++) one.send(request({ type: COMMAND.read, length: MIB, cookie }));
    }
    await settle();
    expect(device.waiting).toHaveLength(5);
    expect(server.heldBytes).toBe(5 * MIB);
    device.letGo();
    for (const one of all) {
      for (let count = 0; count < 4; count++) expect((await one.reply(() => MIB)).error).toBe(0);
    }
    await expect.poll(() => server.heldBytes).toBe(0);
  });

  it('a client that stops reading holds little, and the others go on', async () => {
    const { socketPath, server } = await serve(new MemoryDevice(MIB), { limits: { bytesPerConnection: 32 * MIB } });
    const deaf = await chosen(socketPath);
    deaf.socket.pause();
    for (let cookie = 0; cookie < 100; cookie++) deaf.send(request({ type: COMMAND.read, length: MIB, cookie }));
    await settle();
    expect(server.heldBytes).toBeLessThanOrEqual(32 * MIB);
    const other = await chosen(socketPath);
    expect((await other.ask({ type: COMMAND.read, length: MIB })).data).toHaveLength(MIB);
    deaf.socket.resume();
    for (let count = 0; count < 100; count++) expect((await deaf.reply(() => MIB)).error).toBe(0);
    await deaf.close();
    await expect.poll(() => server.heldBytes).toBe(0);
  });

  it('a client that stands still loses its connection when others need its memory, and only then', async () => {
    const clock = new ManualClock();
    const limits = { payloadBytes: MIB, bytesPerConnection: MIB, bytesPerServer: MIB };
    const { socketPath, server } = await serve(new MemoryDevice(MIB), { clock, limits });
    const half = await chosen(socketPath);
    half.send(request({ type: COMMAND.write, length: MIB }), Buffer.alloc(10));
    await settle();
    clock.advance(1_000_000);
    await settle();
    expect(server.clientCount).toBe(1);
    const other = await chosen(socketPath);
    other.send(request({ type: COMMAND.read, length: 1 }));
    await settle();
    clock.advance(30_000);
    await half.closed;
    expect(await other.reply(() => 1)).toMatchObject({ error: 0 });
    expect(server.clientCount).toBe(1);
  });

  it('more clients than the limit are turned away', async () => {
    const { socketPath } = await serve(new MemoryDevice(MIB), { limits: { connections: 2 } });
    const [one] = [await chosen(socketPath), await chosen(socketPath)];
    await expect(chosen(socketPath)).rejects.toThrow('hung up');
    await one.close();
    await settle();
    expect((await (await chosen(socketPath)).ask({ type: COMMAND.read, length: 1 })).error).toBe(0);
  });
});

describe('endings:', () => {
  it('a client that vanishes in the middle leaves nothing behind', async () => {
    const device = new SlowDevice(MIB);
    const { socketPath, server } = await serve(device);
    const seen: string[] = [];
    server.onClient = (event, count) => seen.push(`${event} ${count}`);
    const one = await chosen(socketPath);
    one.send(request({ type: COMMAND.read, length: MIB }), request({ type: COMMAND.write, length: MIB }));
    await settle();
    expect(server.heldBytes).toBe(2 * MIB);
    await one.close();
    await settle();
    expect(server.clientCount).toBe(0);
    expect(server.heldBytes, 'the device still fills the memory').toBe(MIB);
    device.letGo();
    await settle();
    expect(server.heldBytes).toBe(0);
    expect(seen).toEqual(['connected 1', 'left 0']);
  });

  it('one that waits in line for memory is not waited for', async () => {
    const device = new SlowDevice(MIB);
    const limits = { payloadBytes: MIB, bytesPerConnection: MIB, bytesPerServer: MIB };
    const { socketPath, server } = await serve(device, { limits });
    const [first, second, third] = [await chosen(socketPath), await chosen(socketPath), await chosen(socketPath)];
    first.send(request({ type: COMMAND.read, length: 10 }));
    await settle();
    second.send(request({ type: COMMAND.read, length: MIB }));
    await settle();
    third.send(request({ type: COMMAND.read, length: 10 }));
    await settle();
    expect(device.waiting).toHaveLength(1);
    await second.close();
    device.letGo();
    expect((await third.reply(() => 10)).error).toBe(0);
    expect((await first.reply(() => 10)).error).toBe(0);
    await expect.poll(() => server.heldBytes).toBe(0);
  });

  it('a client that says goodbye gets its answers first, even if it can send no more', async () => {
    const device = new SlowDevice(MIB);
    const { socketPath, server } = await serve(device);
    const one = await chosen(socketPath);
    const wanted = [0, 1, 2, 3].map((cookie) => request({ type: COMMAND.read, length: 10, cookie }));
    one.send(...wanted, request({ type: COMMAND.disconnect }), request({ type: COMMAND.read, length: 10 }));
    one.socket.end();
    await settle();
    device.letGo();
    for (let count = 0; count < 4; count++) expect((await one.reply(() => 10)).data).toHaveLength(10);
    await one.closed;
    expect(one.heardBytes).toBe(0);
    await expect.poll(() => server.connectionCount).toBe(0);
  });

  it('close() answers what was taken, hangs up, and removes the socket', async () => {
    const device = new SlowDevice(MIB);
    const { socketPath, server } = await serve(device);
    const one = await chosen(socketPath);
    const idle = new RawClient(socketPath);
    await idle.greet();
    one.send(request({ type: COMMAND.write, length: 4 }, Buffer.from('kept')));
    await settle();
    const closing = server.close();
    expect(server.close()).toBe(closing);
    await idle.closed;
    await expect(chosen(socketPath)).rejects.toThrow();
    device.letGo();
    expect(await one.reply(() => 0)).toMatchObject({ error: 0 });
    await one.closed;
    await closing;
    expect(existsSync(socketPath)).toBe(false);
    const bytes = Buffer.alloc(4);
    await device.read(0, bytes);
    expect(bytes.toString()).toBe('kept');
  });

  it('close() waits for a device no longer than it is told', async () => {
    const clock = new ManualClock();
    const device = new SlowDevice(MIB);
    const { socketPath, server } = await serve(device, { clock });
    const one = await chosen(socketPath);
    one.send(request({ type: COMMAND.read, length: 4 }));
    await settle();
    const closing = server.close({ graceMillis: 5000 });
    await settle();
    expect(server.clientCount).toBe(1);
    clock.advance(5000);
    await one.closed;
    await closing;
    device.letGo();
  });
});

describe('refused:', () => {
  const device = new MemoryDevice(MIB);
  it.each([
    [
      'two exports of one name',
      [
        { name: 'a', device, readOnly: true },
        { name: 'a', device, readOnly: true },
      ],
    ],
    ['a name with NUL', [{ name: 'a\0', device, readOnly: true }]],
    ['a name too long', [{ name: 'a'.repeat(5000), device, readOnly: true }]],
    [
      'two defaults',
      [
        { name: 'a', device, readOnly: true, isDefault: true },
        { name: 'b', device, readOnly: true, isDefault: true },
      ],
    ],
    [
      'a bitmap of another length',
      [
        {
          ...{ name: 'a', device, readOnly: true },
          bitmaps: [{ name: 'b', bitmap: { lengthBytes: 1, nextDirty: () => undefined, nextClean: () => 0 } }],
        },
      ],
    ],
  ])('%s', (_what, exports) => {
    expect(() => new NbdServer({ exports })).toThrow(expect.objectContaining({ code: 'bad-export' }));
  });

  it('limits that nothing passes', () => {
    for (const limits of [{ connections: 0 }, { payloadBytes: 1 << 30 }, { options: 1.5 }]) {
      expect(() => new NbdServer({ exports: [], limits })).toThrow(expect.objectContaining({ code: 'bad-limit' }));
    }
  });
});

it('memory is given in the order of the line', () => {
  const budget = new MemoryBudget(10);
  const got: string[] = [];
  expect(budget.tryTake(6)).toBe(true);
  budget.wait(8, () => got.push('large'));
  expect(budget.tryTake(1), 'others wait').toBe(false);
  const leave = budget.wait(4, () => got.push('left'));
  budget.wait(2, () => got.push('small'));
  leave();
  expect(got).toEqual([]);
  budget.give(6);
  expect(got).toEqual(['large', 'small']);
  expect([budget.freeBytes, budget.waiting]).toEqual([0, 0]);
});
