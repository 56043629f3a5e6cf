// SPDX-License-Identifier: MIT
// A regular file or a block device, raw: byte n of it is byte n of the disk.

import fs from 'node:fs';
import { promisify } from 'node:util';
import { isSize } from '../base/checked.js';
import { systemErrorCode } from '../base/errors.js';
import { blockDeviceBytes, punchHoleAsync, readCached, zeroRangeAsync } from '../base/syscalls.js';
import type { BlockExtent } from './device.js';
import { flushFailed, notAnImage, openFailed, readFailed, shrank, writeFailed } from './file-errors.js';
import { type ImageUse, lockImage, shareLength, unlockImage } from './image-lock.js';
import type { MeasuredDevice } from './measured-device.js';
import { checkRange, checkWritable } from './range.js';
import { seekStatus } from './seek-status.js';

const openAsync = promisify(fs.open);
const closeAsync = promisify(fs.close);
const statAsync = promisify(fs.stat);
const fstatAsync = promisify(fs.fstat);
const fdatasyncAsync = promisify(fs.fdatasync);

/** The page cache's unit; every block device takes it. */
const DEVICE_ALIGNMENT_BYTES = 4096;
/** A kernel that has to write the zeros itself does so inside one call: so much at a time. */
const DEVICE_ZERO_STEP_BYTES = 1 << 30;
const ZEROS = Buffer.alloc(1 << 20);

export interface FileDeviceOptions {
  readonly readOnly: boolean;
  /** Take and check no image locks; see image-lock.ts. */
  readonly forceShare?: boolean;
}

/**
 * Opens an existing file or block device and takes its image locks, as reader or as writer.
 * Rejects with FailedError when it is missing, not permitted or something else than a file or block device, and with
 * BusyError when another process has it locked, or, for writing, has it mounted.
 */
export async function openFileDevice(path: string, options: FileDeviceOptions): Promise<FileDevice> {
  const isBlockDevice = await checkKind(path);
  const { O_RDONLY, O_RDWR, O_EXCL } = fs.constants;
  // O_EXCL without O_CREAT: the kernel refuses a block device that is mounted.
  const exclusive = isBlockDevice && !options.readOnly && options.forceShare !== true ? O_EXCL : 0;
  let fd: number;
  try {
    fd = await openAsync(path, (options.readOnly ? O_RDONLY : O_RDWR) | exclusive);
  } catch (error) {
    throw openFailed(path, error);
  }
  try {
    if (options.forceShare !== true) lockImage(fd, path, options.readOnly ? 'read' : 'write');
    const lengthBytes = await measure(fd, isBlockDevice);
    return new FileDevice(fd, path, lengthBytes, isBlockDevice, options.readOnly);
  } catch (error) {
    await closeAsync(fd);
    throw systemErrorCode(error)?.startsWith('E') ? openFailed(path, error) : error;
  }
}

/** Whether it is a block device; rejects unless it is that or a file. Looks before opening: a FIFO would wait. */
async function checkKind(path: string): Promise<boolean> {
  let stat: fs.Stats;
  try {
    stat = await statAsync(path);
  } catch (error) {
    throw openFailed(path, error);
  }
  if (stat.isFile()) return false;
  if (stat.isBlockDevice()) return true;
  if (stat.isDirectory()) throw notAnImage(path, 'a directory');
  if (stat.isFIFO()) throw notAnImage(path, 'a FIFO');
  if (stat.isSocket()) throw notAnImage(path, 'a socket');
  throw notAnImage(path, 'a character device');
}

async function measure(fd: number, isBlockDevice: boolean): Promise<number> {
  return isBlockDevice ? blockDeviceBytes(fd) : (await fstatAsync(fd)).size;
}

export class FileDevice implements MeasuredDevice {
  readonly alignmentBytes: number;
  #fd: number;
  /** False once the file system was found not to tell where holes are. */
  #tellsHoles: boolean;
  /** False once the file system was found not to tell what it has in memory. */
  #tellsCached = true;
  /** After a failed flush the kernel forgets what it could not write: later flushes would lie. */
  #flushError: unknown;

  constructor(
    fd: number,
    readonly name: string,
    readonly lengthBytes: number,
    readonly isBlockDevice: boolean,
    readonly readOnly: boolean,
  ) {
    this.#fd = fd;
    this.#tellsHoles = !isBlockDevice;
    this.alignmentBytes = isBlockDevice ? DEVICE_ALIGNMENT_BYTES : 1;
  }

  /** The descriptor, for workers that read or write the same file; the device stays its owner. */
  get fd(): number {
    return this.#fd;
  }

  lengthNow(): Promise<number> {
    return measure(this.#fd, this.isBlockDevice);
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    for (let done = 0; done < into.byteLength; ) {
      const at = offsetBytes + done;
      const count = await this.#readSome(into, done, at);
      if (count === 0) throw shrank(this.name, at, this.lengthBytes, await this.lengthNow());
      done += count;
    }
  }

  tryRead(offsetBytes: number, into: Uint8Array): boolean {
    const inside = isSize(offsetBytes) && offsetBytes <= this.lengthBytes - into.byteLength;
    if (!inside || !this.#tellsCached) return false;
    const done = readCached(this.#fd, offsetBytes, into);
    if (done === 'never') this.#tellsCached = false;
    return done === true;
  }

  #readSome(into: Uint8Array, from: number, at: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.#fd, into, from, into.byteLength - from, at, (error, count) => {
        if (error) reject(readFailed(this.name, at, error));
        else resolve(count);
      });
    });
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, from.byteLength);
    for (let done = 0; done < from.byteLength; ) {
      done += await this.#writeSome(from, done, offsetBytes + done);
    }
  }

  #writeSome(from: Uint8Array, start: number, at: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.write(this.#fd, from, start, from.byteLength - start, at, (error, count) => {
        if (error) reject(writeFailed(this.name, at, error));
        else resolve(count);
      });
    });
  }

  async writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    options: { keepAllocated?: boolean } = {},
  ): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    const [from, to] = this.#alignedInside(offsetBytes, offsetBytes + lengthBytes);
    const end = offsetBytes + lengthBytes;
    await this.#writeZeros(offsetBytes, from);
    const step = this.isBlockDevice ? DEVICE_ZERO_STEP_BYTES : Number.MAX_SAFE_INTEGER;
    for (let at = from; at < to; ) {
      const piece = Math.min(step, to - at);
      await this.#zeroAligned(at, piece, options.keepAllocated === true);
      at += piece;
    }
    await this.#writeZeros(to, end);
  }

  async #zeroAligned(at: number, lengthBytes: number, keepAllocated: boolean): Promise<void> {
    try {
      if (!keepAllocated && (await punchHoleAsync(this.#fd, at, lengthBytes))) return;
      if (await zeroRangeAsync(this.#fd, at, lengthBytes)) return;
    } catch (error) {
      throw writeFailed(this.name, at, error);
    }
    await this.#writeZeros(at, at + lengthBytes);
  }

  async #writeZeros(from: number, to: number): Promise<void> {
    for (let at = from; at < to; ) {
      at += await this.#writeSome(ZEROS.subarray(0, Math.min(ZEROS.length, to - at)), 0, at);
    }
  }

  async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    const [from, to] = this.#alignedInside(offsetBytes, offsetBytes + lengthBytes);
    try {
      await punchHoleAsync(this.#fd, from, to - from);
    } catch (error) {
      throw writeFailed(this.name, from, error);
    }
  }

  /** The largest part of a range that fallocate takes; empty, at the end of the range, if there is none. */
  #alignedInside(start: number, end: number): readonly [from: number, to: number] {
    const unit = this.alignmentBytes;
    const from = Math.ceil(start / unit) * unit;
    const to = end - (end % unit);
    return from < to ? [from, to] : [end, end];
  }

  async flush(): Promise<void> {
    if (this.#flushError !== undefined) throw this.#flushError;
    if (this.readOnly) return;
    try {
      await fdatasyncAsync(this.#fd);
    } catch (error) {
      this.#flushError = flushFailed(this.name, error);
      throw this.#flushError;
    }
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    if (lengthBytes === 0) return [];
    if (this.#tellsHoles) {
      try {
        return seekStatus(this.#fd, offsetBytes, lengthBytes);
      } catch (error) {
        if (!['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(systemErrorCode(error) ?? '')) {
          throw readFailed(this.name, offsetBytes, error);
        }
        this.#tellsHoles = false;
      }
    }
    return [{ offsetBytes, lengthBytes, state: 'data' }];
  }

  /** Gives up the image locks, so that another program can take them. The device can still be used. */
  unlock(): void {
    unlockImage(this.#fd, this.#use);
  }

  /** Its length will not be changed: others may open the image if they rely on no more than that. */
  shareLength(): void {
    shareLength(this.#fd);
  }

  /** Takes all locks again. @throws BusyError when another program has them by now */
  lock(): void {
    lockImage(this.#fd, this.name, this.#use);
  }

  get #use(): ImageUse {
    return this.readOnly ? 'read' : 'write';
  }

  async close(): Promise<void> {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd >= 0) await closeAsync(fd);
  }
}
