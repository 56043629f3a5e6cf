// SPDX-License-Identifier: MIT
// Makes large clusters of small ones that come in any order: of 64 KiB as .vma files have them, of any size as the
// datastore wants them. What does not fit in memory goes to scratch; what is left in memory is a bit a small cluster.

import { BugError } from '../../base/errors.js';
import { copyBytes } from '../../base/syscalls.js';
import { Scratch } from '../scratch.js';

/** For large clusters that are being gathered, of all disks together. */
const MEMORY_BYTES = 32 << 20;
const PAGE_BITS = 1 << 18;

export interface GatherShape {
  readonly smallBytes: number;
  /** How many make a large one. */
  readonly perLarge: number;
  readonly directory: string;
}

/** A disk that is gathered. */
export interface GatheredDisk {
  readonly smallClusters: number;
  /** Takes a large cluster, the disk's last one filled up with zeros; the bytes are valid until it resolves. */
  readonly emit: (large: number, bytes: Uint8Array) => Promise<void>;
}

interface Partial {
  readonly disk: DiskGather;
  readonly large: number;
  readonly bytes: Uint8Array;
}

export class ClusterGather {
  readonly shape: GatherShape;
  /** By disk and large cluster, the oldest first. */
  readonly #partials = new Map<string, Partial>();
  readonly #spare: Uint8Array[] = [];
  readonly #most: number;
  readonly #scratches: Scratch[] = [];

  constructor(shape: GatherShape) {
    this.shape = shape;
    this.#most = Math.max(2, Math.floor(MEMORY_BYTES / this.largeBytes));
  }

  get largeBytes(): number {
    return this.shape.smallBytes * this.shape.perLarge;
  }

  disk(disk: GatheredDisk): DiskGather {
    const scratch = new Scratch(this.shape.directory);
    this.#scratches.push(scratch);
    return new DiskGather(this, disk, scratch, `${this.#scratches.length}`);
  }

  /** @internal */
  partial(key: string): Uint8Array | undefined {
    return this.#partials.get(key)?.bytes;
  }

  /** @internal All zeros. */
  begin(key: string, disk: DiskGather, large: number): Uint8Array {
    if (this.#partials.size >= this.#most) this.#spillOldest();
    const bytes = this.#spare.pop()?.fill(0) ?? new Uint8Array(this.largeBytes);
    this.#partials.set(key, { disk, large, bytes });
    return bytes;
  }

  /** @internal */
  end(key: string): void {
    const partial = this.#partials.get(key);
    if (partial === undefined) return;
    this.#partials.delete(key);
    this.#spare.push(partial.bytes);
  }

  /** @internal Memory for what comes back from scratch. */
  borrow(): Uint8Array {
    return this.#spare.pop() ?? new Uint8Array(this.largeBytes);
  }

  /** @internal */
  giveBack(bytes: Uint8Array): void {
    this.#spare.push(bytes);
  }

  #spillOldest(): void {
    for (const [key, { disk, large, bytes }] of this.#partials) {
      disk.spill(large, bytes);
      this.end(key);
      return;
    }
  }

  close(): void {
    for (const scratch of this.#scratches) scratch.close();
  }
}

export class DiskGather {
  readonly #gather: ClusterGather;
  readonly #disk: GatheredDisk;
  readonly #scratch: Scratch;
  readonly #name: string;
  /** A bit a small cluster that came, in pages. */
  readonly #came = new Map<number, Uint8Array>();

  constructor(gather: ClusterGather, disk: GatheredDisk, scratch: Scratch, name: string) {
    this.#gather = gather;
    this.#disk = disk;
    this.#scratch = scratch;
    this.#name = name;
  }

  /** Takes a small cluster, `undefined` for zeros; gives away the large one that it completes. */
  async add(small: number, bytes: Uint8Array | undefined): Promise<void> {
    const { perLarge, smallBytes } = this.#gather.shape;
    const large = Math.floor(small / perLarge);
    const key = `${this.#name}:${large}`;
    const isFirst = this.#missing(large) === this.#total(large);
    let room = this.#gather.partial(key);
    if (room === undefined && isFirst) room = this.#gather.begin(key, this, large);
    if (bytes !== undefined) {
      if (room !== undefined) copyBytes(room.subarray((small % perLarge) * smallBytes), bytes);
      else this.#scratch.write(small * smallBytes, bytes);
    }
    this.#mark(small);
    if (this.#missing(large) > 0) return;
    if (room !== undefined) {
      await this.#disk.emit(large, room);
      this.#gather.end(key);
    } else await this.#emitSpilled(large);
  }

  async #emitSpilled(large: number): Promise<void> {
    const offsetBytes = large * this.#gather.largeBytes;
    const bytes = this.#gather.borrow().fill(0);
    this.#scratch.read(offsetBytes, bytes);
    await this.#disk.emit(large, bytes);
    this.#gather.giveBack(bytes);
    this.#scratch.free(offsetBytes, bytes.byteLength);
  }

  /** @internal Writes what came of a large cluster to scratch. */
  spill(large: number, bytes: Uint8Array): void {
    const { perLarge, smallBytes } = this.#gather.shape;
    for (let i = 0; i < perLarge; i++) {
      const small = large * perLarge + i;
      if (!this.#hasCome(small)) continue;
      this.#scratch.write(small * smallBytes, bytes.subarray(i * smallBytes, (i + 1) * smallBytes));
    }
  }

  #total(large: number): number {
    const { perLarge } = this.#gather.shape;
    return Math.min(perLarge, this.#disk.smallClusters - large * perLarge);
  }

  #missing(large: number): number {
    const { perLarge } = this.#gather.shape;
    const total = this.#total(large);
    let missing = total;
    for (let i = 0; i < total; i++) if (this.#hasCome(large * perLarge + i)) missing--;
    return missing;
  }

  #hasCome(small: number): boolean {
    const bit = small % PAGE_BITS;
    const page = this.#came.get((small - bit) / PAGE_BITS);
    return page !== undefined && ((page[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
  }

  #mark(small: number): void {
    const bit = small % PAGE_BITS;
    const number = (small - bit) / PAGE_BITS;
    let page = this.#came.get(number);
    if (page === undefined) {
      page = new Uint8Array(PAGE_BITS / 8);
      this.#came.set(number, page);
    }
    const before = page[bit >> 3] ?? 0;
    const mask = 1 << (bit & 7);
    if ((before & mask) !== 0) throw new BugError(`small cluster ${small} came twice`);
    page[bit >> 3] = before | mask;
  }
}
