// SPDX-License-Identifier: MIT
// Sockets in the file system: their mode, and who may take a path.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { NbdServer } from '#vmar/src/nbd/server/nbd-server.js';
import { scratchDirectory } from '../../base/scratch.js';

const directory = scratchDirectory();
const servers: NbdServer[] = [];
let count = 0;

const path = () => join(directory, `socket-${count++}`);

function server(): NbdServer {
  const made = new NbdServer({ exports: [{ name: '', device: new MemoryDevice(4096), readOnly: true }] });
  servers.push(made);
  return made;
}

afterEach(async () => {
  for (const one of servers.splice(0)) await one.close({ graceMillis: 0 });
});

const mode = (file: string) => (lstatSync(file).mode & 0o777).toString(8);

/** A process that listens there and is killed: the socket stays and nobody listens. */
async function leaveStale(socket: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(socket)}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(existsSync(socket)).toBe(true);
}

describe('the mode', () => {
  it.each([
    ['600', undefined],
    ['660', { mode: 0o660 }],
    ['666', { mode: 0o666 }],
  ])('is %s from the first moment, whatever the mask', async (expected, options) => {
    for (const mask of [0o000, 0o077]) {
      const socket = path();
      const before = process.umask(mask);
      const listening = server().listenUnix(socket, options);
      // Nothing is changed after binding: as soon as the file is there, its mode is right.
      while (!existsSync(socket)) await new Promise(setImmediate);
      const first = mode(socket);
      await listening;
      expect(process.umask(before)).toBe(mask);
      expect([first, mode(socket)]).toEqual([expected, expected]);
    }
  });
});

describe('the path', () => {
  it('goes away with the server', async () => {
    const socket = path();
    const one = server();
    await one.listenUnix(socket);
    expect(existsSync(socket)).toBe(true);
    await one.close();
    expect(existsSync(socket)).toBe(false);
  });

  it('of a server that answers is refused', async () => {
    const socket = path();
    await server().listenUnix(socket);
    await expect(server().listenUnix(socket)).rejects.toMatchObject({ code: 'socket-in-use', exitStatus: 5 });
    expect(existsSync(socket)).toBe(true);
  });

  it('of a server that died is taken', async () => {
    const socket = path();
    await leaveStale(socket);
    await server().listenUnix(socket);
    await expect(server().listenUnix(socket)).rejects.toMatchObject({ code: 'socket-in-use' });
  });

  it('goes to one of several that come at once', async () => {
    for (const stale of [true, false]) {
      const socket = path();
      if (stale) await leaveStale(socket);
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => server().listenUnix(socket)));
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const result of results) {
        if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'socket-in-use' });
      }
    }
  });

  it.each([
    ['a file', (at: string) => writeFileSync(at, 'precious')],
    ['a directory', (at: string) => mkdirSync(at)],
    ['a symbolic link', (at: string) => symlinkSync('/nowhere', at)],
  ])('where there is %s is refused', async (_what, put) => {
    const taken = path();
    put(taken);
    await expect(server().listenUnix(taken)).rejects.toMatchObject({ code: 'socket-path-taken', object: taken });
    expect(lstatSync(taken)).toBeDefined();
    if (lstatSync(taken).isFile()) expect(readFileSync(taken, 'utf8')).toBe('precious');
  });

  it('in no directory, or too long, is refused', async () => {
    const missing = join(directory, 'missing', 'socket');
    await expect(server().listenUnix(missing)).rejects.toMatchObject({ code: 'cannot-listen', object: missing });
    await expect(server().listenUnix(join(directory, 'x'.repeat(108)))).rejects.toMatchObject({
      code: 'socket-path-too-long',
      exitStatus: 2,
    });
  });
});
