// SPDX-License-Identifier: MIT
// Writes chunks to a target with as few calls as their places allow, past the page cache where the target takes it:
// buffered writing costs a copy and a flood of dirty pages that a restore never reads again.

import { writeSync } from 'node:fs';
import { BugError, FailedError, systemErrorCode } from '../base/errors.js';
import type { FileTarget, TaskTarget } from './extract-job.js';
import type { SlotMemory } from './slot-memory.js';

/** Collects neighbours; `flush` before the raw bytes change. */
export class ExtractWriter {
  bytesWritten = 0;
  /** O_DIRECT was tried and refused. */
  directRefused = false;
  readonly #target: TaskTarget;
  #raw: Buffer = Buffer.alloc(0);
  #from = 0;
  #length = 0;
  #targetOffset = 0;

  constructor(target: TaskTarget) {
    this.#target = target;
  }

  /** What the address of raw bytes should be a multiple of. */
  get memoryAlignment(): 1 | 4096 {
    return this.#directFd === -1 ? 1 : 4096;
  }

  get #directFd(): number {
    return this.#target.kind === 'file' && !this.directRefused ? this.#target.directFd : -1;
  }

  /** Writes `length` bytes of `raw` at a place of the target, now or with `flush`. */
  put(raw: Buffer, from: number, length: number, targetOffset: number): void {
    const follows =
      raw === this.#raw && from === this.#from + this.#length && targetOffset === this.#targetOffset + this.#length;
    if (follows) {
      this.#length += length;
      return;
    }
    this.flush();
    this.#raw = raw;
    this.#from = from;
    this.#length = length;
    this.#targetOffset = targetOffset;
  }

  flush(): void {
    if (this.#length === 0) return;
    if (this.#target.kind === 'slot') this.#copy(this.#target.memory);
    else this.#write(this.#target);
    this.bytesWritten += this.#length;
    this.#length = 0;
  }

  #copy(slot: SlotMemory): void {
    if (this.#targetOffset + this.#length > slot.bytes.byteLength) throw new BugError('a chunk does not fit its slot');
    this.#raw.copy(slot.bytes, this.#targetOffset, this.#from, this.#from + this.#length);
  }

  #write(target: FileTarget): void {
    let done = 0;
    while (done < this.#length) {
      const from = this.#from + done;
      const offset = this.#targetOffset + done;
      const left = this.#length - done;
      const direct = this.#directLength(target, from, offset, left);
      done +=
        direct > 0 ? this.#writeDirect(target, from, direct, offset) : this.#writeBuffered(target, from, left, offset);
    }
  }

  /** How much of the run can go past the page cache: all but an unaligned tail, nothing if it starts unaligned. */
  #directLength(target: FileTarget, from: number, offset: number, length: number): number {
    const { alignment } = target;
    if (this.#directFd === -1 || from % alignment !== 0 || offset % alignment !== 0) return 0;
    return length - (length % alignment);
  }

  #writeDirect(target: FileTarget, from: number, length: number, offset: number): number {
    try {
      const written = writeSync(target.directFd, this.#raw, from, length, offset);
      if (written > 0) return written;
    } catch (cause) {
      if (systemErrorCode(cause) !== 'EINVAL') throw writeFailure(target, offset, cause);
    }
    this.directRefused = true;
    return 0;
  }

  #writeBuffered(target: FileTarget, from: number, length: number, offset: number): number {
    let written: number;
    try {
      written = writeSync(target.fd, this.#raw, from, length, offset);
    } catch (cause) {
      throw writeFailure(target, offset, cause);
    }
    if (written === 0) throw writeFailure(target, offset, new Error('nothing was written'));
    return written;
  }
}

function writeFailure(target: FileTarget, offsetBytes: number, cause: unknown): FailedError {
  return new FailedError('write-failed', `the target cannot be written: ${systemErrorCode(cause) ?? String(cause)}`, {
    ...(target.object === undefined ? {} : { object: target.object }),
    offsetBytes,
    cause,
  });
}
