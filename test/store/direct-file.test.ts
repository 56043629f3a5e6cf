// SPDX-License-Identifier: MIT
// Failures of DirectFile, with descriptors that fail as told.

import { readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DirectFile } from '#vmar/src/store/direct-file.js';
import { temporaryDirectory } from './temporary-directory.js';

const MIB = 1 << 20;

interface Behaviour {
  /** Before the nth direct write: the error code it fails with, or how many bytes it writes. */
  readonly directWrite?: (n: number) => string | number | undefined;
  readonly sync?: string;
}

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

/** A DirectFile over two plain descriptors; counts how often each is used. */
async function openFile(behaviour: Behaviour) {
  const path = join(temporaryDirectory(), 'f');
  const plain = await open(path, 'wx');
  const direct = await open(path, 'r+');
  const used = { directBytes: 0, plain: 0, syncs: 0 };
  let calls = 0;
  const wrappedDirect = {
    async writev(pieces: readonly Uint8Array[], position: number) {
      expect(position % 4096).toBe(0);
      for (const piece of pieces) expect(piece.byteLength % 4096).toBe(0);
      const told = behaviour.directWrite?.(++calls);
      if (typeof told === 'string') throw systemError(told);
      const bytes = Buffer.concat(pieces);
      const written = await direct.write(bytes, 0, told ?? bytes.byteLength, position);
      used.directBytes += written.bytesWritten;
      return written;
    },
    close: () => direct.close(),
  };
  const wrappedPlain = {
    write: (bytes: Uint8Array, offset: number, length: number, position: number) => {
      used.plain++;
      return plain.write(bytes, offset, length, position);
    },
    async sync() {
      used.syncs++;
      if (behaviour.sync !== undefined) throw systemError(behaviour.sync);
      await plain.sync();
    },
    close: () => plain.close(),
  };
  const file = new DirectFile(path, wrappedPlain as FileHandle, wrappedDirect as unknown as FileHandle);
  return { file, path, used };
}

describe('DirectFile', () => {
  it('writes only the odd end through the plain descriptor', async () => {
    const { file, path, used } = await openFile({});
    await file.write([Buffer.alloc(2 * MIB + 5000, 7)], 0);
    await file.fsync();
    await file.close();
    expect(used).toEqual({ directBytes: 2 * MIB + 4096, plain: 1, syncs: 1 });
    expect(readFileSync(path).equals(Buffer.alloc(2 * MIB + 5000, 7))).toBe(true);
  });

  it('writes through the plain descriptor where the file system refuses', async () => {
    const { file, path, used } = await openFile({ directWrite: () => 'EINVAL' });
    await file.write([Buffer.alloc(3 * MIB, 7)], 0);
    await file.fsync();
    await file.close();
    expect(used.plain).toBe(3);
    expect(readFileSync(path).equals(Buffer.alloc(3 * MIB, 7))).toBe(true);
  });

  it('completes a short write', async () => {
    const { file, path } = await openFile({ directWrite: (n) => (n === 2 ? 8192 : undefined) });
    const bytes = Buffer.alloc(3 * MIB);
    for (let i = 0; i < bytes.length; i += 4096) bytes.writeUInt32LE(i, i);
    await file.write([bytes], 0);
    await file.fsync();
    await file.close();
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });

  it('is poisoned by a failed write, and says so at fsync at the latest', async () => {
    const { file, used } = await openFile({ directWrite: (n) => (n === 2 ? 'EIO' : undefined) });
    await file.write([Buffer.alloc(3 * MIB)], 0);
    await expect(file.fsync()).rejects.toMatchObject({ code: 'io-error' });
    expect(used.plain).toBe(0);
    await expect(file.write([Buffer.alloc(1)], 3 * MIB)).rejects.toMatchObject({ code: 'io-error' });
    await expect(file.fsync()).rejects.toMatchObject({ code: 'io-error' });
    await file.close();
    expect(used.syncs).toBe(0);
  });

  it('says at close what no call has said yet', async () => {
    const { file } = await openFile({ directWrite: () => 'ENOSPC' });
    await file.write([Buffer.alloc(MIB)], 0);
    await expect(file.close()).rejects.toMatchObject({ code: 'no-space' });
    await file.close();
  });

  it('never tries a failed fsync again', async () => {
    const { file, used } = await openFile({ sync: 'EIO' });
    await file.write([Buffer.alloc(100)], 0);
    await expect(file.fsync()).rejects.toMatchObject({ code: 'io-error' });
    await expect(file.fsync()).rejects.toMatchObject({ code: 'io-error' });
    expect(used.syncs).toBe(1);
    await file.close();
  });

  it('writes one call at a time, of half of what may wait, and lets 16 blocks wait at most', async () => {
    const calls: number[] = [];
    const waiting: (() => void)[] = [];
    const direct = {
      writev: async (pieces: readonly Uint8Array[]) => {
        calls.push(pieces.length);
        await new Promise<void>((resolve) => waiting.push(resolve));
        return { bytesWritten: pieces.length * MIB };
      },
      close: async () => {},
    };
    const plain = { sync: async () => {}, close: async () => {} };
    const file = new DirectFile('f', plain as unknown as FileHandle, direct as unknown as FileHandle);
    let written = false;
    const writing = file.write([Buffer.alloc(20 * MIB)], 0).then(() => {
      written = true;
    });
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect({ calls, waiting: waiting.length, written }).toEqual({ calls: [1], waiting: 1, written: false });
    const pump = setInterval(() => {
      for (const resolve of waiting.splice(0)) resolve();
    }, 1);
    await writing;
    await file.fsync();
    clearInterval(pump);
    await file.close();
    expect(calls.slice(0, 2)).toEqual([1, 8]);
    expect(calls.reduce((sum, blocks) => sum + blocks)).toBe(20);
    expect(Math.max(...calls)).toBe(8);
  });
});
