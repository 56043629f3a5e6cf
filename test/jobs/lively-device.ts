// SPDX-License-Identifier: MIT
// A device for tests of jobs on live devices: slow in random ways, failing at random, and counting what goes on in it.

import { setImmediate as turn } from 'node:timers/promises';
import { FailedError } from '#vmar/src/base/errors.js';
import type { BlockDevice, BlockExtent } from '#vmar/src/block/device.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import type { Random } from '../base/random.js';

export type Operation = 'read' | 'write' | 'zero' | 'discard' | 'flush' | 'status';

export interface Seen {
  readonly operation: Operation;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Writes and reads take several turns, a page at a time, as those of a disk do. */
export class LivelyDevice implements BlockDevice {
  readonly alignmentBytes: number = 1;
  readonly readOnly = false;
  readonly memory: MemoryDevice;
  readonly seen: Seen[] = [];
  /** Without it, nothing takes time. */
  random: Random | undefined;
  /** What fails, and with what. */
  fault: ((seen: Seen) => unknown) | undefined;
  /** Each operation waits for it first. */
  hold: ((seen: Seen) => Promise<void> | undefined) | undefined;
  /** Bytes of writes under way, and the most there were. */
  writingBytes = 0;
  mostWritingBytes = 0;
  underWay = 0;
  mostUnderWay = 0;

  constructor(
    readonly lengthBytes: number,
    readonly name: string,
    random?: Random,
  ) {
    this.memory = new MemoryDevice(lengthBytes, { name });
    this.random = random;
  }

  read(offsetBytes: number, into: Uint8Array): Promise<void> {
    return this.#do('read', offsetBytes, into.byteLength, () =>
      this.#paged(offsetBytes, into.byteLength, (at, from, to) => this.memory.read(at, into.subarray(from, to))),
    );
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    this.writingBytes += from.byteLength;
    this.mostWritingBytes = Math.max(this.mostWritingBytes, this.writingBytes);
    try {
      await this.#do('write', offsetBytes, from.byteLength, () =>
        this.#paged(offsetBytes, from.byteLength, (at, start, end) => this.memory.write(at, from.subarray(start, end))),
      );
    } finally {
      this.writingBytes -= from.byteLength;
    }
  }

  writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#do('zero', offsetBytes, lengthBytes, () => this.memory.writeZeroes(offsetBytes, lengthBytes));
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#do('discard', offsetBytes, lengthBytes, () => this.memory.discard(offsetBytes, lengthBytes));
  }

  flush(): Promise<void> {
    return this.#do('flush', 0, 0, () => this.memory.flush());
  }

  blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return this.#do('status', offsetBytes, lengthBytes, async () => {
      const extents = await this.memory.blockStatus(offsetBytes, lengthBytes);
      return this.random ? extents.slice(0, this.random.integer(1, extents.length)) : extents;
    });
  }

  async close(): Promise<void> {}

  of(operation: Operation): Seen[] {
    return this.seen.filter((seen) => seen.operation === operation);
  }

  async bytes(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.lengthBytes);
    await this.memory.read(0, bytes);
    return bytes;
  }

  async #do<T>(operation: Operation, offsetBytes: number, lengthBytes: number, action: () => Promise<T>): Promise<T> {
    const seen = { operation, offsetBytes, lengthBytes };
    this.seen.push(seen);
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
    try {
      await this.hold?.(seen);
      await this.#turns();
      const error = this.fault?.(seen);
      if (error) {
        // What a failed write leaves is not known.
        if (operation === 'write' && this.random?.oneIn(2)) {
          await this.memory.write(offsetBytes, Buffer.alloc(lengthBytes, 0xbd));
        }
        throw error;
      }
      return await action();
    } finally {
      this.underWay--;
    }
  }

  async #paged(
    offsetBytes: number,
    lengthBytes: number,
    action: (at: number, from: number, to: number) => Promise<void>,
  ): Promise<void> {
    const step = this.random ? this.random.integer(1, 4) * 4096 : Math.max(1, lengthBytes);
    for (let at = 0; at < lengthBytes; at += step) {
      await action(offsetBytes + at, at, Math.min(lengthBytes, at + step));
      await this.#turns();
    }
  }

  async #turns(): Promise<void> {
    for (let turns = this.random?.integer(0, 2) ?? 0; turns > 0; turns--) await turn();
  }
}

export function ioError(name: string, offsetBytes = 0): FailedError {
  return new FailedError('io-error', 'EIO', { object: name, offsetBytes });
}

export function noSpace(name: string): FailedError {
  return new FailedError('no-space', 'ENOSPC', { object: name });
}

/** Fails once where it is true. */
export function once(matches: (seen: Seen) => boolean, error: unknown): (seen: Seen) => unknown {
  let isOver = false;
  return (seen) => {
    if (isOver || !matches(seen)) return undefined;
    isOver = true;
    return error;
  };
}
