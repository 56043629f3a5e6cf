// SPDX-License-Identifier: MIT
// A guest that writes all the time, and knows what its disks held after each of its writes.

import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { type Random, seededRandom } from '../base/random.js';

const BLOCK = 4096;

/** A disk to be written to. */
export interface Target {
  write(bytes: Buffer, from: number, lengthBytes: number, at: number): Promise<unknown>;
  close(): Promise<void>;
}

interface Written {
  readonly disk: number;
  readonly at: number;
  readonly lengthBytes: number;
}

/**
 * Writes one after another, to one disk or another, each with its own number in every eight bytes. So a disk that is as
 * it was at one moment tells which one.
 */
export class LiveWriter {
  readonly #random: Random;
  readonly #sizes: readonly number[];
  readonly #log: Written[] = [];
  #files: readonly Target[] = [];
  #running: Promise<void> | undefined;
  #stop = false;
  /** Write as fast as it goes. */
  hasty = false;

  constructor(seed: number, sizes: readonly number[]) {
    this.#random = seededRandom(seed);
    this.#sizes = sizes;
  }

  /** How many writes were acknowledged. */
  get writes(): number {
    return this.#log.length;
  }

  async start(mounts: Iterable<string>): Promise<void> {
    const files: Target[] = [];
    for (const mount of mounts) files.push(await open(mount, 'r+'));
    this.startOn(files);
  }

  startOn(targets: readonly Target[]): void {
    this.#files = targets;
    this.#stop = false;
    this.#running = this.#run();
    this.#running.catch(() => {});
  }

  async stop(): Promise<void> {
    this.#stop = true;
    try {
      await this.#running;
    } finally {
      // What a dead daemon exported cannot be closed in good order.
      for (const file of this.#files) await file.close().catch(() => {});
    }
  }

  async #run(): Promise<void> {
    while (!this.#stop) {
      await this.#write();
      // Else everything is dirty at once, and nothing is proven of what stays clean.
      if (!this.hasty && this.#random.oneIn(2)) await delay(2);
    }
  }

  async #write(): Promise<void> {
    const disk = this.#random.integer(0, this.#sizes.length - 1);
    const blocks = this.#random.integer(1, 8);
    const at = this.#random.integer(0, this.#sizes[disk]! / BLOCK - blocks) * BLOCK;
    const written = { disk, at, lengthBytes: blocks * BLOCK };
    await this.#files[disk]!.write(stamped(this.#log.length + 1, written.lengthBytes), 0, written.lengthBytes, at);
    this.#log.push(written);
  }

  /** What the disks held after so many writes. */
  contents(writes: number): Buffer[] {
    const disks = this.#sizes.map((size) => Buffer.alloc(size));
    for (const [index, { disk, at, lengthBytes }] of this.#log.slice(0, writes).entries()) {
      stamped(index + 1, lengthBytes).copy(disks[disk]!, at);
    }
    return disks;
  }

  /** After which write the disks were like these. @throws Error if they never were */
  momentOf(disks: readonly Buffer[]): number {
    const moment = lastWrite(disks);
    for (const [at, content] of this.contents(moment).entries()) {
      if (!disks[at]!.equals(content)) throw new Error(`disk ${at} is not as it was after write ${moment}`);
    }
    return moment;
  }
}

function stamped(number: number, lengthBytes: number): Buffer {
  const stamp = Buffer.alloc(8);
  stamp.writeBigUInt64LE(BigInt(number));
  return Buffer.alloc(lengthBytes, stamp);
}

/** The last write that is seen in any of the disks. */
function lastWrite(disks: readonly Buffer[]): number {
  let last = 0;
  for (const disk of disks) {
    for (let at = 0; at < disk.length; at += BLOCK) last = Math.max(last, Number(disk.readBigUInt64LE(at)));
  }
  return last;
}
