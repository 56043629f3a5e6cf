// SPDX-License-Identifier: MIT
// A StoreFs that leaves room on the file system: it takes no more bytes once too little is free.
//
// What it refuses fails as it does on a full disk: the file is given up, and whoever wrote it leaves nothing half done.
// Files of a few MiB are let through: a commit whose packs are all there is not held up by its manifest.

import { statfsSync } from 'node:fs';
import { FailedError } from '../base/errors.js';
import { humanSize } from '../base/quantities.js';
import { type CreateOptions, type StoreFile, type StoreFs, storeFailure } from './fs.js';

/** Bytes written to a file between two looks at the file system. */
const LOOK_BYTES = 8 << 20;

/** @throws FailedError 'min-free' if less than that is free for those who are not root */
export function checkRoom(directory: string, minFreeBytes: number): void {
  const freeBytes = freeIn(directory);
  if (freeBytes >= minFreeBytes) return;
  throw new FailedError('min-free', 'too little is free on the file system of the datastore', {
    object: directory,
    expected: `at least ${humanSize(minFreeBytes)}`,
    found: humanSize(freeBytes),
    advice: 'Free space there (`vmar prune`, then `vmar gc`), or ask for less with --min-free.',
  });
}

function freeIn(directory: string): number {
  try {
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize;
  } catch (error) {
    throw storeFailure(error, 'ask for the free space', directory);
  }
}

export class RoomyFs implements StoreFs {
  readonly #below: StoreFs;
  readonly #directory: string;
  readonly #minFreeBytes: number;

  constructor(below: StoreFs, directory: string, minFreeBytes: number) {
    this.#below = below;
    this.#directory = directory;
    this.#minFreeBytes = minFreeBytes;
  }

  async createFile(path: string, options?: CreateOptions): Promise<StoreFile> {
    const file = await this.#below.createFile(path, options);
    return new RoomyFile(file, () => checkRoom(this.#directory, this.#minFreeBytes));
  }

  async mkdir(path: string): Promise<void> {
    await this.#below.mkdir(path);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#below.rename(from, to);
  }

  async link(existing: string, path: string): Promise<void> {
    await this.#below.link(existing, path);
  }

  async unlink(path: string): Promise<void> {
    await this.#below.unlink(path);
  }

  async rmdir(path: string): Promise<void> {
    await this.#below.rmdir(path);
  }

  async fsyncDirectory(path: string): Promise<void> {
    await this.#below.fsyncDirectory(path);
  }
}

/** The first refusal is final, as with a write that failed. */
class RoomyFile implements StoreFile {
  readonly #below: StoreFile;
  readonly #check: () => void;
  #unchecked = 0;
  #isLarge = false;
  #refusal: unknown;

  constructor(below: StoreFile, check: () => void) {
    this.#below = below;
    this.#check = check;
  }

  get path(): string {
    return this.#below.path;
  }

  async write(buffers: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    for (const { byteLength } of buffers) this.#unchecked += byteLength;
    if (this.#unchecked >= LOOK_BYTES) {
      this.#unchecked = 0;
      this.#isLarge = true;
      this.#look();
    }
    if (this.#refusal !== undefined) throw this.#refusal;
    await this.#below.write(buffers, offsetBytes);
  }

  #look(): void {
    try {
      this.#check();
    } catch (error) {
      this.#refusal ??= error;
    }
  }

  /** What was written may have waited in memory until now, when others have long taken the room. */
  async fsync(): Promise<void> {
    if (this.#refusal !== undefined) throw this.#refusal;
    await this.#below.fsync();
    if (this.#isLarge) this.#look();
    if (this.#refusal !== undefined) throw this.#refusal;
  }

  async close(): Promise<void> {
    await this.#below.close();
  }
}
