// SPDX-License-Identifier: MIT
// A StoreFs that remembers what was done, so that a test can ask what a crash after any step would have left.

import { relative } from 'node:path';
import type { CreateOptions, StoreFile, StoreFs } from '#vmar/src/store/fs.js';

/** Paths are relative to the root. `file` numbers the files that were created, since they may be renamed while open. */
export type Operation =
  | { readonly kind: 'create'; readonly path: string; readonly file: number }
  | { readonly kind: 'write'; readonly file: number; readonly offsetBytes: number; readonly bytes: Uint8Array }
  | { readonly kind: 'fsync'; readonly file: number }
  | { readonly kind: 'mkdir' | 'unlink' | 'rmdir' | 'fsync-directory'; readonly path: string }
  | { readonly kind: 'rename' | 'link'; readonly from: string; readonly to: string };

/** Records what succeeded, in order. Two recorders never share a root. */
export class RecordingFs implements StoreFs {
  readonly operations: Operation[] = [];
  readonly #inner: StoreFs;
  readonly #root: string;
  #files = 0;

  constructor(inner: StoreFs, root: string) {
    this.#inner = inner;
    this.#root = root;
  }

  async createFile(path: string, options?: CreateOptions): Promise<StoreFile> {
    const inner = await this.#inner.createFile(path, options);
    const file = this.#files++;
    this.operations.push({ kind: 'create', path: this.#name(path), file });
    return new RecordingFile(inner, file, this.operations);
  }

  async mkdir(path: string): Promise<void> {
    await this.#inner.mkdir(path);
    this.operations.push({ kind: 'mkdir', path: this.#name(path) });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#inner.rename(from, to);
    this.operations.push({ kind: 'rename', from: this.#name(from), to: this.#name(to) });
  }

  async link(existing: string, path: string): Promise<void> {
    await this.#inner.link(existing, path);
    this.operations.push({ kind: 'link', from: this.#name(existing), to: this.#name(path) });
  }

  async unlink(path: string): Promise<void> {
    await this.#inner.unlink(path);
    this.operations.push({ kind: 'unlink', path: this.#name(path) });
  }

  async rmdir(path: string): Promise<void> {
    await this.#inner.rmdir(path);
    this.operations.push({ kind: 'rmdir', path: this.#name(path) });
  }

  async fsyncDirectory(path: string): Promise<void> {
    await this.#inner.fsyncDirectory(path);
    this.operations.push({ kind: 'fsync-directory', path: this.#name(path) });
  }

  #name(path: string): string {
    return relative(this.#root, path);
  }
}

class RecordingFile implements StoreFile {
  readonly path: string;
  readonly #inner: StoreFile;
  readonly #file: number;
  readonly #operations: Operation[];

  constructor(inner: StoreFile, file: number, operations: Operation[]) {
    this.path = inner.path;
    this.#inner = inner;
    this.#file = file;
    this.#operations = operations;
  }

  async write(buffers: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    const bytes = Buffer.concat(buffers);
    await this.#inner.write(buffers, offsetBytes);
    this.#operations.push({ kind: 'write', file: this.#file, offsetBytes, bytes });
  }

  async fsync(): Promise<void> {
    await this.#inner.fsync();
    this.#operations.push({ kind: 'fsync', file: this.#file });
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }
}
