// SPDX-License-Identifier: MIT
// Whole small files of a datastore: read up to a limit, or made durable.

import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import { DamageError, NotFoundError } from '../base/errors.js';
import { type StoreFs, storeFailure, systemCode } from './fs.js';

/**
 * The content of a file. Read on the calling thread: it takes some 20 µs, and a promise for each step ten times that,
 * which tells where ten thousand manifests are listed.
 * @throws NotFoundError if there is none, DamageError if it is larger than `mostBytes`, cannot be read (EIO), or if what
 * has its name is no file.
 */
export async function readSmallFile(path: string, mostBytes: number): Promise<Buffer> {
  try {
    // Without O_NONBLOCK a FIFO would wait here for a writer.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const bytes = readShort(fd) ?? readLong(fd, path, mostBytes);
      if (bytes.byteLength > mostBytes) throw tooLarge(path, mostBytes, bytes.byteLength);
      return bytes;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw readFailure(error, path);
  }
}

/** Longer than nearly every manifest. */
const scratch = Buffer.allocUnsafeSlow(16 * 1024);

/** Without asking for the length, which takes as long as to read. Undefined if the file is longer than that. */
function readShort(fd: number): Buffer | undefined {
  for (let length = 0; length < scratch.byteLength; ) {
    const count = readSync(fd, scratch, length, scratch.byteLength - length, length);
    if (count === 0) return Buffer.from(scratch.subarray(0, length));
    length += count;
  }
  return undefined;
}

function readLong(fd: number, path: string, mostBytes: number): Buffer {
  const stats = fstatSync(fd);
  if (!stats.isFile()) throw noFile(path);
  if (stats.size > mostBytes) throw tooLarge(path, mostBytes, stats.size);
  const bytes = Buffer.allocUnsafeSlow(stats.size);
  // Not to the end of the file: one that somebody writes to may have none.
  for (let length = 0; length < bytes.byteLength; ) {
    const count = readSync(fd, bytes, length, bytes.byteLength - length, length);
    if (count === 0) return bytes.subarray(0, length);
    length += count;
  }
  return bytes;
}

function noFile(path: string, cause?: unknown): DamageError {
  const facts = { object: path, offsetBytes: 0, ...(cause === undefined ? {} : { cause }) };
  return new DamageError('not-a-file', 'this is not a file', facts);
}

function tooLarge(path: string, mostBytes: number, sizeBytes: number): DamageError {
  return new DamageError('file-too-large', 'the file is larger than any of its kind', {
    object: path,
    expected: `at most ${mostBytes} bytes`,
    found: `${sizeBytes} bytes`,
  });
}

/** A directory, links in a circle, a socket, a FIFO that somebody writes to. */
const NO_FILE: ReadonlySet<string> = new Set(['EISDIR', 'ELOOP', 'ENXIO', 'ESPIPE', 'EAGAIN']);

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

function readFailure(error: unknown, path: string): Error {
  const code = systemCode(error);
  if (code !== undefined && NO_FILE.has(code)) return noFile(path, error);
  if (code === 'ENOENT' && isLink(path)) {
    const facts = { object: path, offsetBytes: 0, cause: error };
    return new DamageError('link-lost', 'the symbolic link leads nowhere', facts);
  }
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new NotFoundError('no-such-file', 'no such file', { object: path, cause: error });
  }
  if (code !== 'EIO') return storeFailure(error, 'read', path);
  return new DamageError('read-error', 'cannot be read: input/output error', {
    object: path,
    offsetBytes: 0,
    advice: 'Check the disk (`dmesg`, smartctl).',
    cause: error,
  });
}

/** Writes a new file and makes its content durable; leaves nothing behind if that fails. */
export async function writeDurably(fs: StoreFs, path: string, bytes: Uint8Array): Promise<void> {
  const file = await fs.createFile(path);
  try {
    await file.write([bytes], 0);
    await file.fsync();
    await file.close();
  } catch (error) {
    await file.close().catch(() => undefined);
    await fs.unlink(path).catch(() => undefined);
    throw error;
  }
}
