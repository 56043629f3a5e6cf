// SPDX-License-Identifier: MIT
// Where a disk is restored to: a new file, or a file or block device that is there already.
//
// Guarantees: nothing is written to a target that is too small, in use, or (unless told) not empty; a new file has the
// target's name only once it is whole and durable, and is removed again if it does not come to that.

import { closeSync, constants, lstatSync, openSync } from 'node:fs';
import { type FileDevice, openFileDevice } from '../block/file-device.js';
import { PartialFile } from './partial-file.js';
import type { RestoreTarget } from './restore-disk.js';
import { checkTarget } from './target-checks.js';

export interface TargetOptions {
  /** Whether a target that has content already may be written over. */
  readonly overwrite: boolean;
  /** The caller promises that the target reads as zeros. */
  readonly targetIsZero: boolean;
}

export interface OpenTarget extends RestoreTarget {
  readonly path: string;
  /** Longer than the disk by so many bytes. */
  readonly excessBytes: number;
  /** Makes what was written durable. */
  flush(): Promise<void>;
  /** Gives a new file its name, durably, and closes; to be called after `flush`. */
  finish(): Promise<void>;
  /** Closes; removes a file that was made for this, also one that has its name. */
  abandon(): Promise<void>;
}

const ALIGNMENT = 4096;

export async function openTarget(path: string, sizeBytes: number, options: TargetOptions): Promise<OpenTarget> {
  const isThere = lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  const partial = isThere ? undefined : await PartialFile.create(path, sizeBytes);
  try {
    const device = await openFileDevice(partial?.path ?? path, { readOnly: false });
    try {
      if (isThere) await checkTarget(device, path, sizeBytes, options);
      return new FileTarget(device, path, sizeBytes, partial, isThere && !options.targetIsZero);
    } catch (error) {
      await device.close();
      throw error;
    }
  } catch (error) {
    await partial?.remove();
    throw error;
  }
}

class FileTarget implements OpenTarget {
  readonly path: string;
  readonly fd: number;
  readonly directFd: number;
  readonly alignment = ALIGNMENT;
  readonly writeZeros: boolean;
  readonly excessBytes: number;
  readonly #device: FileDevice;
  /** Of a new file. */
  readonly #partial: PartialFile | undefined;
  #isClosed = false;

  constructor(
    device: FileDevice,
    path: string,
    sizeBytes: number,
    partial: PartialFile | undefined,
    writeZeros: boolean,
  ) {
    this.#device = device;
    this.path = path;
    this.#partial = partial;
    this.writeZeros = writeZeros;
    this.excessBytes = device.lengthBytes - sizeBytes;
    this.fd = device.fd;
    this.directFd = openDirect(partial?.path ?? path);
  }

  async write(offsetBytes: number, bytes: Uint8Array): Promise<void> {
    await this.#device.write(offsetBytes, bytes);
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#device.writeZeroes(offsetBytes, lengthBytes);
  }

  async flush(): Promise<void> {
    await this.#device.flush();
  }

  async finish(): Promise<void> {
    await this.#partial?.publish();
    await this.#close();
  }

  async abandon(): Promise<void> {
    await this.#close();
    await this.#partial?.remove();
  }

  async #close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.directFd >= 0) closeSync(this.directFd);
    await this.#device.close();
  }
}

/** -1 where the file system has no direct writes. */
function openDirect(path: string): number {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_DIRECT);
  } catch {
    return -1;
  }
}
