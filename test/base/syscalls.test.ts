// SPDX-License-Identifier: MIT
import { closeSync, ftruncateSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import {
  alignedOffset,
  blockDeviceBytes,
  flock,
  ofdQueryLock,
  ofdTryLock,
  ofdUnlock,
  punchHole,
  punchHoleAsync,
  seekData,
  seekHole,
  startWriteback,
  zeroRange,
  zeroRangeAsync,
} from '#vmar/src/base/syscalls.js';
import { scratchDirectory } from './scratch.js';

const directory = scratchDirectory();
const MIB = 1 << 20;
const open: number[] = [];

function openFile(name: string, flags = 'w+'): number {
  const fd = openSync(join(directory, name), flags);
  open.push(fd);
  return fd;
}

afterEach(() => {
  for (const fd of open.splice(0)) closeSync(fd);
});

describe('seekData, seekHole', () => {
  it('find data and holes', () => {
    const fd = openFile('sparse');
    ftruncateSync(fd, 8 * MIB);
    writeSync(fd, Buffer.alloc(MIB, 1), 0, MIB, 2 * MIB);
    expect(seekData(fd, 0)).toBe(2 * MIB);
    expect(seekHole(fd, 2 * MIB)).toBe(3 * MIB);
    expect(seekData(fd, 3 * MIB)).toBeUndefined();
    expect(seekHole(fd, 5 * MIB)).toBe(5 * MIB);
  });

  it('reach far beyond 32 bits', () => {
    const fd = openFile('huge');
    const far = 8 * 2 ** 40;
    ftruncateSync(fd, far);
    writeSync(fd, Buffer.alloc(4096, 1), 0, 4096, far - MIB);
    expect(seekData(fd, 0)).toBe(far - MIB);
  });

  it('throw errors like those of node:fs', () => {
    const fd = openFile('small');
    expect(() => seekHole(fd, MIB)).toThrow(expect.objectContaining({ code: 'ENXIO', errno: -6, syscall: 'lseek' }));
    expect(() => seekData(-1, 0)).toThrow(expect.objectContaining({ code: 'EBADF', errno: -9 }));
  });
});

describe('fallocate', () => {
  it.each([
    ['punchHole', punchHole],
    ['zeroRange', zeroRange],
    ['punchHoleAsync', punchHoleAsync],
    ['zeroRangeAsync', zeroRangeAsync],
  ])('%s zeroes a range and keeps the length', async (_name, zero) => {
    const fd = openFile('zeroed');
    writeSync(fd, Buffer.alloc(MIB, 7));
    if (!(await zero(fd, 1000, MIB))) {
      console.warn(`\n!!! the file system of ${directory} cannot: NOT TESTED: ${_name}\n`);
      return;
    }
    const read = Buffer.alloc(MIB);
    expect(readSync(fd, read, 0, MIB, 0)).toBe(MIB);
    expect(read.equals(Buffer.concat([Buffer.alloc(1000, 7), Buffer.alloc(MIB - 1000)]))).toBe(true);
  });

  it('frees the space of a hole', () => {
    const fd = openFile('freed');
    writeSync(fd, Buffer.alloc(MIB, 7));
    expect(punchHole(fd, 0, MIB)).toBe(true);
    expect(statSync(join(directory, 'freed')).blocks).toBeLessThan(100);
  });

  it('rejects what is not lack of support', async () => {
    openFile('read');
    const fd = openFile('read', 'r');
    expect(() => punchHole(fd, 0, 1)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'fallocate' }));
    await expect(punchHoleAsync(fd, 0, 1)).rejects.toMatchObject({ code: 'EBADF', syscall: 'fallocate' });
  });
});

describe('locks', () => {
  it('flock excludes between open files', () => {
    const [a, b] = [openFile('lock'), openFile('lock', 'r+')];
    expect(flock(a, 'shared', { wait: false })).toBe(true);
    expect(flock(b, 'shared', { wait: false })).toBe(true);
    expect(flock(b, 'exclusive', { wait: false })).toBe(false);
    expect(flock(a, 'unlock', { wait: false })).toBe(true);
    expect(flock(b, 'exclusive', { wait: false })).toBe(true);
    expect(flock(a, 'shared', { wait: false })).toBe(false);
  });

  it('open file locks exclude by range and type', () => {
    const [a, b] = [openFile('ranges'), openFile('ranges', 'r+')];
    expect(ofdTryLock(a, 'read', 100, 1)).toBe(true);
    expect(ofdTryLock(b, 'read', 100, 1)).toBe(true);
    expect(ofdQueryLock(b, 'write', 100, 1)).toBe(false);
    expect(ofdQueryLock(b, 'write', 101, 1)).toBe(true);
    expect(ofdTryLock(b, 'write', 90, 20)).toBe(false);
    ofdUnlock(a, 0, 1000);
    expect(ofdQueryLock(b, 'write', 100, 1)).toBe(true);
    expect(ofdTryLock(b, 'write', 90, 20)).toBe(true);
    expect(ofdQueryLock(a, 'read', 109, 1)).toBe(false);
  });
});

describe('the others', () => {
  it('blockDeviceBytes refuses a file', () => {
    expect(() => blockDeviceBytes(openFile('file'))).toThrow(expect.objectContaining({ code: 'ENOTTY' }));
  });

  it('startWriteback never fails', () => {
    startWriteback(openFile('file'), 0, MIB);
    startWriteback(-1, 0, MIB);
  });

  it('alignedOffset tells what to skip', () => {
    const memory = new SharedArrayBuffer(MIB);
    const skip = alignedOffset(memory, 4096);
    expect(skip).toBeLessThan(4096);
    expect(alignedOffset(new Uint8Array(memory, skip), 4096)).toBe(0);
    expect(alignedOffset(new Uint8Array(memory, skip + 1), 4096)).toBe(4095);
  });

  it('work in worker threads', async () => {
    const module = new URL('../../dist/src/base/syscalls.js', import.meta.url).href;
    const fd = openFile('threads');
    writeSync(fd, 'x');
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(${JSON.stringify(module)}).then((calls) => parentPort.postMessage(calls.seekHole(workerData, 0)));`;
    const workers = [1, 2].map(() => new Worker(code, { eval: true, workerData: fd }));
    const answers = workers.map((worker) => new Promise((resolve) => worker.once('message', resolve)));
    expect(await Promise.all(answers)).toEqual([1, 1]);
    await Promise.all(workers.map((worker) => worker.terminate()));
  });
});
