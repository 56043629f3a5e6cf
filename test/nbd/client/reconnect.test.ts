// SPDX-License-Identifier: MIT
// Servers that fail, are slow, go away and come back.

import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type NbdDeviceOptions, openNbdDevice } from '#vmar/src/nbd/client/nbd-client.js';
import { seededRandom } from '../../base/random.js';
import { haveTool, scratchDirectory } from '../../base/scratch.js';
import { readAll } from '../../block/device-contract.js';
import { nbdkit, qemuNbd, type Server } from './servers.js';

const directory = scratchDirectory();
let count = 0;
const socketPath = () => join(directory, `s${count++}`);
const uriOf = (socket: string, name = '') => `nbd+unix:///${name}?socket=${socket}`;
const reading: NbdDeviceOptions = { readOnly: true, reconnectMillis: 20_000 };

describe.skipIf(!haveTool('nbdkit', 'the NBD client against servers that fail'))('a server', () => {
  const content = Buffer.from(seededRandom(3).bytes(8 << 20));
  const image = join(directory, 'image');
  writeFileSync(image, content);

  it.each([1, 4])(
    'that is killed and started again while it is read loses nothing: %i connections',
    async (connections) => {
      const socket = socketPath();
      const start = () => nbdkit(socket, '--filter=delay', 'file', image, 'rdelay=20ms');
      let server: Server = await start();
      const device = await openNbdDevice(server.uri, { ...reading, connections });
      let over = false;
      const killing = (async () => {
        for (let round = 0; round < 4; round++) {
          await delay(60);
          await server.kill();
          rmSync(socket, { force: true });
          await delay(60);
          server = await start();
        }
        over = true;
      })();
      while (!over) expect((await readAll(device)).equals(content)).toBe(true);
      await killing;
      await device.close();
    },
  );

  it('that does not come back: an error after the time that was given, for all at once', async () => {
    const server = await nbdkit(socketPath(), 'file', image);
    const device = await openNbdDevice(server.uri, { ...reading, reconnectMillis: 300 });
    await server.kill();
    const reads = [0, 1, 2].map((at) => device.read(at * 4096, new Uint8Array(4096)));
    for (const read of reads) {
      await expect(read).rejects.toMatchObject({
        code: 'nbd-lost',
        exitStatus: 1,
        object: server.uri,
        message: expect.stringContaining('within 0.3 seconds'),
      });
    }
    // A later call tries anew.
    await expect(device.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'nbd-lost' });
    await device.close();
  });

  it('that comes back with another size', async () => {
    const server = await nbdkit(socketPath(), 'memory', '1M');
    const device = await openNbdDevice(server.uri, reading);
    await server.kill();
    rmSync(server.socket);
    await nbdkit(server.socket, 'memory', '2M');
    await expect(device.read(0, new Uint8Array(1))).rejects.toMatchObject({
      code: 'nbd-changed',
      expected: '1048576 bytes',
      found: '2097152 bytes',
    });
    await expect(device.read(0, new Uint8Array(1))).rejects.toMatchObject({ code: 'nbd-changed' });
    await device.close();
  });

  it('that was away after writes which were not flushed: flush says so, for good', async () => {
    const server = await nbdkit(socketPath(), 'memory', '1M');
    const device = await openNbdDevice(server.uri, { readOnly: false });
    await device.write(0, Buffer.from('flushed'));
    await device.flush();
    await device.write(0, Buffer.from('forgotten'));
    await server.kill();
    rmSync(server.socket);
    await nbdkit(server.socket, 'memory', '1M');
    await device.write(4096, Buffer.from('x'));
    await expect(device.flush()).rejects.toMatchObject({ code: 'writes-may-be-lost', exitStatus: 1 });
    await expect(device.flush()).rejects.toMatchObject({ code: 'writes-may-be-lost' });
    await device.close();
  });

  it('that keeps silent is given up after the time-out', async () => {
    const server = await nbdkit(socketPath(), '--filter=delay', 'memory', '1M', 'rdelay=60');
    const device = await openNbdDevice(server.uri, { readOnly: true, timeoutMillis: 1000, reconnectMillis: 0 });
    await expect(device.read(0, new Uint8Array(1))).rejects.toMatchObject({
      code: 'nbd-lost',
      message: expect.stringContaining('no answer within 1 seconds'),
    });
    await device.close();
  });

  it('that takes the connection and never greets', async () => {
    const socket = socketPath();
    const mute = net.createServer(() => undefined).listen(socket);
    await new Promise((resolve) => mute.once('listening', resolve));
    await expect(openNbdDevice(uriOf(socket), { readOnly: true, timeoutMillis: 100 })).rejects.toMatchObject({
      code: 'nbd-unreachable',
      message: expect.stringContaining('within 0.1 seconds'),
    });
    mute.close();
  });

  it('is left at once when the signal says so', async () => {
    const server = await nbdkit(socketPath(), '--filter=delay', 'memory', '1M', 'rdelay=60');
    const stop = new AbortController();
    const device = await openNbdDevice(server.uri, { ...reading, signal: stop.signal });
    const read = device.read(0, new Uint8Array(1));
    stop.abort();
    await expect(read).rejects.toMatchObject({ exitStatus: 130 });
    await expect(device.read(0, new Uint8Array(1))).rejects.toMatchObject({ exitStatus: 130 });
    await device.close();
    const late = openNbdDevice(server.uri, { ...reading, signal: stop.signal });
    await expect(late).rejects.toMatchObject({ exitStatus: 130 });
  });

  it('closing settles what is under way', async () => {
    const server = await nbdkit(socketPath(), '--filter=delay', 'memory', '1M', 'rdelay=60');
    const device = await openNbdDevice(server.uri, reading);
    const read = device.read(0, new Uint8Array(1));
    await device.close();
    await expect(read).rejects.toMatchObject({ code: 'device-closed' });
  });

  it('with errors: those of the range are told, the others go on', async () => {
    const words = ['--filter=error', 'memory', '1M', 'error-pread=EIO', 'error-pread-rate=50%'];
    const server = await nbdkit(socketPath(), ...words);
    const device = await openNbdDevice(server.uri, reading);
    let failed = 0;
    for (let at = 0; at < 100; at++) {
      await device.read(at * 4096, new Uint8Array(4096)).catch((error: unknown) => {
        failed++;
        expect(error).toMatchObject({ code: 'read-failed', offsetBytes: at * 4096, object: server.uri });
        expect(String(error)).toContain('EIO');
      });
    }
    expect(failed).toBeGreaterThan(10);
    expect(failed).toBeLessThan(90);
    await device.close();
  });

  it.each([
    ['write', 'error-pwrite=ENOSPC', 'no-space'],
    ['write', 'error-pwrite=EPERM', 'write-failed'],
    ['writeZeroes', 'error-zero=ENOSPC', 'no-space'],
  ] as const)('that fails a %s with %s: %s', async (operation, word, code) => {
    const server = await nbdkit(socketPath(), '--filter=error', 'memory', '1M', word, 'error-rate=100%');
    const device = await openNbdDevice(server.uri, { readOnly: false });
    const done = operation === 'write' ? device.write(0, new Uint8Array(512).fill(1)) : device.writeZeroes(0, 4096);
    await expect(done).rejects.toMatchObject({ code });
    await device.close();
  });

  it('with a retry filter of its own, with exitlast, and without holes', async () => {
    const words = ['--filter=exitlast', '--filter=retry-request', '--filter=noextents', '--filter=error'];
    const server = await nbdkit(socketPath(), ...words, 'file', image, 'error-pread-rate=10%', 'retry-request-delay=1');
    const device = await openNbdDevice(server.uri, reading);
    expect((await readAll(device)).equals(content)).toBe(true);
    expect(await device.blockStatus(0, 1000)).toEqual([{ offsetBytes: 0, lengthBytes: 1000, state: 'data' }]);
    const ended = new Promise((resolve) => server.child.once('close', resolve));
    await device.close();
    await ended;
  });

  it('that is not there, has no such export, or gives it for reading only', async () => {
    const open = (uri: string, readOnly = true) => openNbdDevice(uri, { readOnly });
    const gone = uriOf(socketPath());
    await expect(open(gone)).rejects.toMatchObject({ code: 'nbd-unreachable', object: gone, exitStatus: 1 });
    const server = await nbdkit(socketPath(), '-r', 'memory', '1M');
    await expect(open(server.uri, false)).rejects.toMatchObject({ code: 'read-only-export' });
    await expect(open('nbd+unix:///x')).rejects.toMatchObject({ code: 'bad-uri', exitStatus: 2 });
    const old = await nbdkit(socketPath(), '-o', 'memory', '1M');
    await expect(open(old.uri)).rejects.toMatchObject({ code: 'nbd-protocol', object: old.uri });
  });

  it('that promises nothing about several connections gets one', async () => {
    const one = await nbdkit(socketPath(), '--filter=multi-conn', 'memory', '1M', 'multi-conn-mode=disable');
    const device = await openNbdDevice(one.uri, reading);
    await delay(50);
    expect(device.connectionCount).toBe(1);
    await device.close();
    const four = await nbdkit(socketPath(), 'memory', '1M');
    const other = await openNbdDevice(four.uri, reading);
    while (other.connectionCount < 4) await delay(5);
    await other.close();
  });

  it('of 8 EiB less a bit is no disk; one of 2^53 − 1 bytes less a bit is', async () => {
    const huge = await nbdkit(socketPath(), 'pattern', '7E');
    await expect(openNbdDevice(huge.uri, reading)).rejects.toMatchObject({ code: 'nbd-protocol' });
    const large = await nbdkit(socketPath(), 'memory', `${2 ** 53 - 4096}`);
    const device = await openNbdDevice(large.uri, reading);
    const [extent] = await device.blockStatus(0, 2 ** 40);
    expect(extent).toMatchObject({ offsetBytes: 0, state: 'zero' });
    await device.close();
  });
});

describe.skipIf(!haveTool('qemu-nbd', 'the NBD client against qemu-nbd'))('qemu-nbd', () => {
  it('with room for one client only', async () => {
    const image = join(directory, 'one.raw');
    writeFileSync(image, 'content');
    truncateSync(image, 1 << 20);
    const server = await qemuNbd(socketPath(), '--read-only', '--format=raw', '--shared=1', image);
    const device = await openNbdDevice(server.uri, reading);
    const read = Buffer.alloc(7);
    await Promise.all(Array.from({ length: 20 }, () => device.read(0, read)));
    expect(read.toString()).toBe('content');
    await device.close();
    // It is free for the next one.
    await (await openNbdDevice(server.uri, reading)).close();
  });
});
