// SPDX-License-Identifier: MIT
// A StoreFs whose operations fail as told: faults are values.

import type { CreateOptions, StoreFile, StoreFs } from '#vmar/src/store/fs.js';
import { storeFailure } from '#vmar/src/store/fs.js';

export interface Fault {
  /** Which changing operation fails, from 1; writes, fsyncs and closes of files count too. */
  readonly at: number;
  readonly code: 'ENOSPC' | 'EIO' | 'EDQUOT' | 'EROFS' | 'EACCES';
  /** A write that fails has written so many of its bytes; none by default. */
  readonly partBytes?: number;
  /** All that follow fail too, as on a full disk; removing things still works. */
  readonly lasting?: boolean;
}

export class FaultFs implements StoreFs {
  readonly #inner: StoreFs;
  readonly #fault: Fault;
  /** Operations so far, with names for messages. */
  readonly seen: string[] = [];
  fired = false;

  /** `at` Infinity never fails and only counts. */
  constructor(inner: StoreFs, fault: Fault) {
    this.#inner = inner;
    this.#fault = fault;
  }

  get fault(): Fault {
    return this.#fault;
  }

  /** Counts an operation; the error if it is to fail. */
  next(name: string, path: string): Error | undefined {
    this.seen.push(`${name} ${path}`);
    const removes = name === 'unlink' || name === 'rmdir' || name === 'close';
    const follows = this.fired && this.#fault.lasting === true && !removes;
    if (this.seen.length !== this.#fault.at && !follows) return undefined;
    this.fired = true;
    const error = Object.assign(new Error(`${this.#fault.code}: injected`), { code: this.#fault.code });
    return storeFailure(error, name, path);
  }

  async #step<T>(name: string, path: string, action: () => Promise<T>): Promise<T> {
    const error = this.next(name, path);
    if (error !== undefined) throw error;
    return await action();
  }

  createFile(path: string, options?: CreateOptions): Promise<StoreFile> {
    return this.#step('create', path, async () => new FaultFile(await this.#inner.createFile(path, options), this));
  }

  mkdir(path: string): Promise<void> {
    return this.#step('mkdir', path, () => this.#inner.mkdir(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#step('rename', to, () => this.#inner.rename(from, to));
  }

  link(existing: string, path: string): Promise<void> {
    return this.#step('link', path, () => this.#inner.link(existing, path));
  }

  unlink(path: string): Promise<void> {
    return this.#step('unlink', path, () => this.#inner.unlink(path));
  }

  rmdir(path: string): Promise<void> {
    return this.#step('rmdir', path, () => this.#inner.rmdir(path));
  }

  fsyncDirectory(path: string): Promise<void> {
    return this.#step('fsync-directory', path, () => this.#inner.fsyncDirectory(path));
  }
}

class FaultFile implements StoreFile {
  readonly path: string;
  readonly #inner: StoreFile;
  readonly #faults: FaultFs;
  #failure: Error | undefined;

  constructor(inner: StoreFile, faults: FaultFs) {
    this.path = inner.path;
    this.#inner = inner;
    this.#faults = faults;
  }

  async write(buffers: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#failure = this.#faults.next('write', this.path);
    if (this.#failure === undefined) return await this.#inner.write(buffers, offsetBytes);
    const part = this.#faults.fault.partBytes ?? 0;
    if (part > 0) await this.#inner.write([Buffer.concat(buffers).subarray(0, part)], offsetBytes);
    throw this.#failure;
  }

  async fsync(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#failure = this.#faults.next('fsync', this.path);
    if (this.#failure !== undefined) throw this.#failure;
    await this.#inner.fsync();
  }

  async close(): Promise<void> {
    const error = this.#faults.next('close', this.path);
    await this.#inner.close();
    if (error !== undefined && this.#failure === undefined) {
      this.#failure = error;
      throw error;
    }
  }
}
