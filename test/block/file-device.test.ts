// SPDX-License-Identifier: MIT
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type FileDevice, openFileDevice } from '#vmar/src/block/file-device.js';
import { scratchDirectory } from '../base/scratch.js';
import { deviceContract } from './device-contract.js';

const directory = scratchDirectory();
const MIB = 1 << 20;
let files = 0;

function sparseFile(lengthBytes: number): string {
  const path = join(directory, `image-${files++}`);
  writeFileSync(path, '');
  truncateSync(path, lengthBytes);
  return path;
}

async function openSparse(lengthBytes: number): Promise<FileDevice> {
  return openFileDevice(sparseFile(lengthBytes), { readOnly: false });
}

deviceContract('a FileDevice over a file', openSparse);

describe('a FileDevice over a file', () => {
  it('reads at once what is in memory, or does not', async () => {
    const device = await openSparse(MIB);
    await device.write(5000, Buffer.from('content'));
    const into = Buffer.alloc(9, 0xee);
    // Whether it can depends on the file system; what it gives does not.
    if (device.tryRead(4999, into)) expect(into.toString()).toBe('\0content\0');
    else console.warn('\n!!! this file system cannot be asked what it has in memory: NOT TESTED: FileDevice.tryRead\n');
    expect(device.tryRead(MIB - 8, into)).toBe(false);
    expect(device.tryRead(-1, into)).toBe(false);
    await device.close();
  });

  it('skips holes of any size', async () => {
    const length = 8 * 2 ** 40;
    const device = await openSparse(length);
    await device.write(2 ** 42, Buffer.alloc(MIB, 1));
    expect(await device.blockStatus(0, length)).toEqual([
      { offsetBytes: 0, lengthBytes: 2 ** 42, state: 'zero' },
      { offsetBytes: 2 ** 42, lengthBytes: MIB, state: 'data' },
      { offsetBytes: 2 ** 42 + MIB, lengthBytes: length - 2 ** 42 - MIB, state: 'zero' },
    ]);
    await device.close();
  });

  it('tells much fragmented files in several answers', async () => {
    const pieces = 3000;
    const device = await openSparse(pieces * 8192);
    for (let at = 0; at < pieces; at++) await device.write(at * 8192, Buffer.alloc(4096, 1));
    let at = 0;
    let answers = 0;
    while (at < device.lengthBytes) {
      for (const extent of await device.blockStatus(at, device.lengthBytes - at)) {
        expect(extent).toEqual({ offsetBytes: at, lengthBytes: 4096, state: at % 8192 === 0 ? 'data' : 'zero' });
        at += 4096;
      }
      answers++;
    }
    expect(answers).toBeGreaterThan(1);
    await device.close();
  });

  it('frees the space of zeros, unless it is to keep it', async () => {
    const path = sparseFile(4 * MIB);
    const device = await openFileDevice(path, { readOnly: false });
    const allocated = async () => {
      await device.flush();
      return statSync(path).blocks * 512;
    };
    await device.write(0, Buffer.alloc(4 * MIB, 1));
    expect(await allocated()).toBeGreaterThanOrEqual(4 * MIB);
    await device.writeZeroes(0, 2 * MIB, { keepAllocated: true });
    expect(await allocated()).toBeGreaterThanOrEqual(4 * MIB);
    await device.writeZeroes(0, 4 * MIB);
    expect(await allocated()).toBeLessThan(MIB);
    await device.close();
  });

  it('notices that the file changed its length', async () => {
    const path = sparseFile(3 * MIB);
    const device = await openFileDevice(path, { readOnly: true });
    truncateSync(path, 4 * MIB);
    expect(await device.lengthNow()).toBe(4 * MIB);
    await device.read(2 * MIB, Buffer.alloc(MIB));
    truncateSync(path, 2 * MIB + 5);
    await expect(device.read(2 * MIB, Buffer.alloc(MIB))).rejects.toMatchObject({
      code: 'image-shrank',
      exitStatus: 1,
      object: path,
      offsetBytes: 2 * MIB + 5,
      expected: `${3 * MIB} bytes`,
      found: `${2 * MIB + 5} bytes`,
    });
    expect(await device.blockStatus(0, 3 * MIB)).not.toHaveLength(0);
    await device.close();
  });

  it('is not written to when read-only', async () => {
    const path = sparseFile(10);
    const device = await openFileDevice(path, { readOnly: true });
    const refused = { code: 'read-only', object: path };
    await expect(device.write(0, new Uint8Array(1))).rejects.toMatchObject(refused);
    await expect(device.writeZeroes(0, 1)).rejects.toMatchObject(refused);
    await expect(device.discard(0, 1)).rejects.toMatchObject(refused);
    await device.flush();
    await device.close();
    await device.close();
  });
});

describe('openFileDevice', () => {
  const opening = (path: string) => openFileDevice(path, { readOnly: true });

  it('says what is missing or not permitted', async () => {
    const missing = join(directory, 'nothing');
    await expect(opening(missing)).rejects.toMatchObject({ code: 'image-missing', exitStatus: 1, object: missing });
    await expect(opening(join(sparseFile(1), 'below'))).rejects.toMatchObject({ code: 'image-missing' });
  });

  it('refuses what is no image', async () => {
    const folder = join(directory, 'folder');
    mkdirSync(folder);
    const notAnImage = (path: string, found: string) => ({ code: 'not-an-image', exitStatus: 1, object: path, found });
    await expect(opening(folder)).rejects.toMatchObject(notAnImage(folder, 'a directory'));
    await expect(opening('/dev/null')).rejects.toMatchObject(notAnImage('/dev/null', 'a character device'));
    const fifo = join(directory, 'fifo');
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0);
    await expect(opening(fifo)).rejects.toMatchObject(notAnImage(fifo, 'a FIFO'));
    const socket = join(directory, 'socket');
    const server = createServer().listen(socket);
    await once(server, 'listening');
    await expect(opening(socket)).rejects.toMatchObject(notAnImage(socket, 'a socket'));
    server.close();
  });

  it('leaves no descriptor open when it refuses', async () => {
    const path = sparseFile(10);
    const writer = await openFileDevice(path, { readOnly: false });
    await expect(opening(path)).rejects.toMatchObject({ code: 'image-locked' });
    await writer.close();
    await (await openFileDevice(path, { readOnly: false })).close();
  });
});
