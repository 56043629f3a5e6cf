// SPDX-License-Identifier: MIT
// A disk on which every request takes its time and is done in parts, and a guest that is at work on it.

import { setImmediate as turn } from 'node:timers/promises';
import type { BlockDevice } from '#vmar/src/block/device.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { RequestList } from '#vmar/src/block/request-list.js';
import type { Random } from '../base/random.js';

/** Reads and writes are done in two halves with other things in between: what is not kept apart shows. */
export class TornDisk extends MemoryDevice {
  readBytes = 0;
  writtenBytes = 0;
  zeroedBytes = 0;
  readonly #random: Random;

  constructor(lengthBytes: number, random: Random, name = 'torn disk') {
    super(lengthBytes, { name });
    this.#random = random;
  }

  override async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    this.readBytes += into.byteLength;
    await this.#halves(into.byteLength, (from, to) => super.read(offsetBytes + from, into.subarray(from, to)));
  }

  override async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    this.writtenBytes += from.byteLength;
    await this.#halves(from.byteLength, (a, b) => super.write(offsetBytes + a, from.subarray(a, b)));
  }

  override async writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.zeroedBytes += lengthBytes;
    await this.#halves(lengthBytes, (from, to) => super.writeZeroes(offsetBytes + from, to - from));
  }

  async #halves(lengthBytes: number, part: (from: number, to: number) => Promise<void>): Promise<void> {
    const middle = this.#random.integer(0, lengthBytes);
    await this.#pause();
    await part(0, middle);
    await this.#pause();
    await part(middle, lengthBytes);
    if (this.#random.oneIn(4)) await this.#pause();
  }

  async #pause(): Promise<void> {
    for (let turns = this.#random.integer(0, 2); turns > 0; turns--) await turn();
  }
}

/** Puts random stretches of data and holes on a disk, and gives its content. */
export async function fillRandomly(disk: BlockDevice, random: Random, longest = 200_000): Promise<Buffer> {
  const content = Buffer.alloc(disk.lengthBytes);
  for (let at = 0; at < disk.lengthBytes; ) {
    const length = Math.min(disk.lengthBytes - at, random.integer(1, random.oneIn(3) ? longest : 20_000));
    if (random.oneIn(2)) {
      const bytes = random.bytes(length);
      content.set(bytes, at);
      await disk.write(at, bytes);
    }
    at += length;
  }
  return content;
}

/** Writes, zeroes and discards at random, several at once; requests of its own never overlap. */
export class Guest {
  /** What the disk must hold; what a failed request may have left is unknown, and read back. */
  readonly content: Buffer;
  requests = 0;
  failures: unknown[] = [];
  longestBytes = 60_000;
  #stopped = false;
  readonly #own = new RequestList();

  constructor(
    readonly disk: BlockDevice,
    content: Uint8Array,
    readonly random: Random,
  ) {
    this.content = Buffer.from(content);
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Works until it is stopped, or has made so many requests. */
  async work(workers: number, most = Number.POSITIVE_INFINITY): Promise<void> {
    await Promise.all(Array.from({ length: workers }, () => this.#worker(most)));
  }

  async #worker(most: number): Promise<void> {
    while (!this.#stopped && this.requests < most) {
      this.requests++;
      await this.request();
      for (let turns = this.random.integer(0, 3); turns > 0; turns--) await turn();
    }
  }

  /** One request of any kind. */
  async request(): Promise<void> {
    const { random, disk, content } = this;
    const from = random.integer(0, disk.lengthBytes - 1);
    const longest = random.oneIn(20) ? disk.lengthBytes : random.oneIn(3) ? this.longestBytes : 4096;
    const length = Math.min(random.integer(1, longest), disk.lengthBytes - from);
    const request = await this.#own.begin(from, length);
    try {
      const kind = random.integer(0, 5);
      if (kind === 0) {
        const bytes = Buffer.alloc(length);
        await disk.read(from, bytes);
        if (!bytes.equals(content.subarray(from, from + length))) throw new Error(`guest read wrong bytes at ${from}`);
      } else if (kind === 1) {
        await disk.writeZeroes(from, length);
        content.fill(0, from, from + length);
      } else if (kind === 2) {
        await disk.discard(from, length);
        content.fill(0, from, from + length);
      } else {
        const bytes = random.bytes(length);
        await disk.write(from, bytes);
        content.set(bytes, from);
      }
    } catch (error) {
      this.failures.push(error);
      await this.#readBack(from, length);
    } finally {
      request.end();
    }
  }

  async #readBack(from: number, length: number): Promise<void> {
    await this.disk.read(from, this.content.subarray(from, from + length)).catch(() => {});
  }
}
