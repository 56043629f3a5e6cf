// SPDX-License-Identifier: MIT
// A disk image of some size that changes from round to round, as that of a guest at work does.

import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { CLUSTER } from '../archive/world.js';
import type { Random } from '../base/random.js';

const MIB = 1 << 20;

export class ChangingImage {
  readonly path: string;
  /** What the image holds now. */
  readonly content: Buffer;
  readonly #random: Random;

  /** Noise, text and zeros; the last cluster is not full. */
  constructor(directory: string, name: string, sizeMib: number, random: Random) {
    this.path = join(directory, name);
    this.content = Buffer.alloc(sizeMib * MIB + 4321);
    this.#random = random;
    for (let at = 0; at < this.content.length; at += 4 * MIB)
      this.#fill(at, Math.min(4 * MIB, this.content.length - at));
    const fd = openSync(this.path, 'w');
    ftruncateSync(fd, this.content.length);
    for (let at = 0; at < this.content.length; at += CLUSTER) {
      const piece = this.content.subarray(at, at + CLUSTER);
      if (piece.some((byte) => byte !== 0)) writeSync(fd, piece, 0, piece.length, at);
    }
    closeSync(fd);
  }

  #fill(at: number, length: number): void {
    const piece = this.content.subarray(at, at + length);
    const what = this.#random.integer(0, 3);
    if (what === 0) piece.fill(0);
    else if (what === 1) piece.fill(`round ${this.#random.integer(0, 1e9)} `);
    else piece.set(this.#random.bytes(length));
  }

  /** Changes some places of it, and now and then a large part. */
  change(): void {
    const fd = openSync(this.path, 'r+');
    const places = this.#random.integer(1, 20);
    for (let place = 0; place < places; place++) {
      const length = this.#random.oneIn(20) ? this.#random.integer(MIB, 8 * MIB) : this.#random.integer(1, 4 * CLUSTER);
      const at = this.#random.integer(0, this.content.length - 1);
      this.#fill(at, Math.min(length, this.content.length - at));
      writeSync(fd, this.content, at, Math.min(length, this.content.length - at), at);
    }
    closeSync(fd);
  }
}

/** Whether a file holds exactly these bytes. */
export function fileHolds(path: string, content: Buffer): boolean {
  const fd = openSync(path, 'r');
  try {
    const piece = Buffer.alloc(MIB);
    for (let at = 0; ; ) {
      const count = readSync(fd, piece, 0, piece.length, at);
      if (count === 0) return at === content.length;
      if (!piece.subarray(0, count).equals(content.subarray(at, at + count))) return false;
      at += count;
    }
  } finally {
    closeSync(fd);
  }
}
