// SPDX-License-Identifier: MIT
// A StoreFile that goes past the page cache (O_DIRECT): packs are large and not read back soon, and writing them through
// the cache costs several times the processor time and pushes everything else out of it.
//
// What is written is copied into blocks of aligned memory. The thread pool writes those that wait in one call, one call at
// a time: writes that lengthen a file exclude each other in the kernel, and threads that wait for that burn the processor.
// What does not fill a whole disk block goes through the plain descriptor, at `fsync` or `close`. The plain descriptor is
// also what remains where the file system refuses (EINVAL).

import type { FileHandle } from 'node:fs/promises';
import { BugError, type VmarError } from '../base/errors.js';
import { copyBytes } from '../base/syscalls.js';
import { writeFully } from './buffered-file.js';
import { type StoreFile, storeFailure, systemCode } from './fs.js';
import { giveBlock, STAGING_BYTES, type StagingBlock, takeBlock } from './staging.js';

/** Logical block size of any disk there is; also the alignment of the memory. */
const ALIGNMENT = 4096;
/** Blocks that wait or are being written … */
const MOST_QUEUED = 16;
/** … and those of one call: while it writes, there is room for the next. */
const MOST_TOGETHER = MOST_QUEUED / 2;

interface FilledBlock {
  readonly block: StagingBlock;
  readonly lengthBytes: number;
}

export class DirectFile implements StoreFile {
  readonly path: string;
  readonly #plain: FileHandle;
  #direct: FileHandle | undefined;
  #block: StagingBlock | undefined;
  /** Bytes in `#block`, and where in the file it begins. */
  #used = 0;
  #blockAt = 0;
  /** Neighbours in the file, the first at `#queueAt`. Only the last may be shorter than a block. */
  #queue: FilledBlock[] = [];
  #queueAt = 0;
  #queued = 0;
  /** Runs while there is something in the queue; never rejects. */
  #writing: Promise<void> | undefined;
  /** Called whenever blocks were written. */
  #onRoom: (() => void) | undefined;
  #failure: VmarError | undefined;
  #failureTold = false;
  #closed = false;

  constructor(path: string, plain: FileHandle, direct: FileHandle) {
    this.path = path;
    this.#plain = plain;
    this.#direct = direct;
  }

  async write(buffers: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    this.#check();
    if (offsetBytes !== this.#blockAt + this.#used) {
      throw new BugError(`${this.path} is written at ${offsetBytes}, but ends at ${this.#blockAt + this.#used}`);
    }
    for (const buffer of buffers) {
      for (let done = 0; done < buffer.byteLength; ) {
        this.#block ??= takeBlock();
        const piece = buffer.subarray(done, done + STAGING_BYTES - this.#used);
        copyBytes(this.#block.subarray(this.#used), piece);
        this.#used += piece.byteLength;
        done += piece.byteLength;
        if (this.#used === STAGING_BYTES) await this.#send();
      }
    }
  }

  /** Sends the staged block on its way, once there is room. */
  async #send(): Promise<void> {
    while (this.#queued >= MOST_QUEUED) {
      await new Promise<void>((resolve) => {
        this.#onRoom = resolve;
      });
    }
    this.#check();
    this.#queue.push({ block: this.#block!, lengthBytes: this.#used });
    this.#queued++;
    this.#block = undefined;
    this.#blockAt += this.#used;
    this.#used = 0;
    this.#writing ??= this.#writeQueue();
  }

  async #writeQueue(): Promise<void> {
    while (this.#queue.length > 0) {
      const filled = this.#queue.splice(0, MOST_TOGETHER);
      const at = this.#queueAt;
      for (const { lengthBytes } of filled) this.#queueAt += lengthBytes;
      await this.#writeBlocks(filled, at);
      for (const { block } of filled) giveBlock(block);
      this.#queued -= filled.length;
      this.#onRoom?.();
    }
    this.#writing = undefined;
  }

  /** Never rejects: a failure is kept, for whoever calls next. After one, nothing more is written. */
  async #writeBlocks(filled: readonly FilledBlock[], offsetBytes: number): Promise<void> {
    if (this.#failure !== undefined) return;
    try {
      const whole = filled.map(({ block, lengthBytes }) => block.subarray(0, lengthBytes - (lengthBytes % ALIGNMENT)));
      let done = await this.#writeDirect(whole, offsetBytes);
      let at = offsetBytes;
      for (const { block, lengthBytes } of filled) {
        const skip = Math.min(done, lengthBytes);
        if (skip < lengthBytes) await writeFully(this.#plain, block.subarray(skip, lengthBytes), at + skip);
        done -= skip;
        at += lengthBytes;
      }
    } catch (error) {
      this.#failure ??= storeFailure(error, 'write', this.path);
    }
  }

  /** How many bytes went past the cache: all, or fewer where the file system refuses or a write came up short. */
  async #writeDirect(pieces: readonly Uint8Array[], offsetBytes: number): Promise<number> {
    const direct = this.#direct;
    if (direct === undefined || pieces[0]!.byteLength === 0) return 0;
    try {
      const { bytesWritten } = await direct.writev(pieces, offsetBytes);
      return bytesWritten;
    } catch (error) {
      if (systemCode(error) !== 'EINVAL') throw error;
      return 0;
    }
  }

  /** Writes what is staged; afterwards the file is as long as it should be, or a failure is kept. */
  async #drain(): Promise<void> {
    if (this.#used > 0 && this.#failure === undefined) await this.#send().catch(() => undefined);
    await this.#writing;
  }

  async fsync(): Promise<void> {
    this.#check();
    await this.#drain();
    this.#check();
    try {
      // One inode, so one sync; both descriptors were open before anything was written, and each learns of every error.
      await this.#plain.sync();
    } catch (error) {
      this.#failure ??= storeFailure(error, 'make the file durable', this.path);
    }
    this.#check();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#drain();
    this.#closed = true;
    if (this.#block !== undefined) giveBlock(this.#block);
    this.#block = undefined;
    const results = await Promise.allSettled([this.#direct?.close(), this.#plain.close()]);
    for (const result of results) {
      if (result.status === 'rejected') this.#failure ??= storeFailure(result.reason, 'close', this.path);
    }
    if (this.#failure === undefined || this.#failureTold) return;
    this.#failureTold = true;
    throw this.#failure;
  }

  #check(): void {
    if (this.#closed) throw new BugError(`${this.path} is used after it was closed`);
    if (this.#failure === undefined) return;
    this.#failureTold = true;
    throw this.#failure;
  }
}
