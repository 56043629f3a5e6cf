// SPDX-License-Identifier: MIT
// Files with the semantics of a page cache: what was written is there for whoever opens the file, and durable only after
// a sync. A power cut keeps any part of what was not synced, page by page.

import type { BlockDevice, BlockExtent } from '#vmar/src/block/device.js';
import type { StateFile, StatePlace } from '#vmar/src/live/state-file.js';
import type { Random } from '../base/random.js';

const SECTOR = 512;
/** Syncs take longer than writes. */
const SYNC_TURNS = 25;

/** Bytes that grow, with what of them is durable. */
export class CachedBytes {
  cache: Buffer = Buffer.alloc(0);
  #durable: Buffer = Buffer.alloc(0);
  readonly #dirty = new Set<number>();

  write(at: number, from: Uint8Array): void {
    this.resize(Math.max(this.cache.length, at + from.byteLength));
    this.cache.set(from, at);
    for (let sector = Math.floor(at / SECTOR); sector * SECTOR < at + from.byteLength; sector++)
      this.#dirty.add(sector);
  }

  resize(length: number): void {
    const grown = Buffer.alloc(length);
    this.cache.copy(grown);
    this.cache = grown;
  }

  sync(): void {
    this.#durable = Buffer.from(this.cache);
    this.#dirty.clear();
  }

  /** What is found after a power cut: each sector that was not synced is as before or as after, at random. */
  afterPowerCut(random: Random): CachedBytes {
    const length = random.oneIn(2) ? this.cache.length : this.#durable.length;
    const found = new CachedBytes();
    found.resize(length);
    this.#durable.copy(found.cache, 0, 0, Math.min(length, this.#durable.length));
    for (const sector of this.#dirty) {
      if (random.oneIn(2)) continue;
      this.cache.copy(found.cache, sector * SECTOR, sector * SECTOR, Math.min(length, (sector + 1) * SECTOR));
    }
    found.sync();
    return found;
  }
}

/** One call of a file operation; throws to make it fail. */
export type Fault = (operation: 'write' | 'sync' | 'truncate' | 'publish') => void;

/** Lets others run before and after, as real I/O does. */
async function sometime(random: Random | undefined, most = 3): Promise<void> {
  for (let turns = random?.integer(0, most) ?? 0; turns > 0; turns--) await new Promise(setImmediate);
}

class ForgetfulFile implements StateFile {
  constructor(
    readonly bytes: CachedBytes,
    readonly fault: Fault,
    readonly random: Random | undefined,
  ) {}

  async sizeBytes(): Promise<number> {
    return this.bytes.cache.length;
  }

  async read(at: number, into: Uint8Array): Promise<number> {
    return this.bytes.cache.copy(into, 0, at, at + into.byteLength);
  }

  async write(at: number, from: Uint8Array): Promise<void> {
    const copy = Buffer.from(from);
    await sometime(this.random);
    this.fault('write');
    this.bytes.write(at, copy);
    await sometime(this.random);
  }

  async truncate(length: number): Promise<void> {
    this.fault('truncate');
    this.bytes.resize(length);
  }

  async sync(): Promise<void> {
    await sometime(this.random, SYNC_TURNS);
    this.fault('sync');
    this.bytes.sync();
    await sometime(this.random, SYNC_TURNS);
  }

  async close(): Promise<void> {}
}

/** A directory entry: the name is durable only after `syncName`. */
export class ForgetfulPlace implements StatePlace {
  readonly path = '/state';
  named: CachedBytes | undefined;
  #durablyNamed: CachedBytes | undefined;
  #made: CachedBytes | undefined;

  constructor(
    readonly random?: Random,
    readonly fault: Fault = () => undefined,
  ) {}

  /** The same name in the next boot. */
  afterPowerCut(random: Random): ForgetfulPlace {
    const next = new ForgetfulPlace(this.random, this.fault);
    next.named = (random.oneIn(2) ? this.named : this.#durablyNamed)?.afterPowerCut(random);
    next.#durablyNamed = next.named;
    return next;
  }

  /** The same name after a kill of the process. */
  afterKill(): ForgetfulPlace {
    const next = new ForgetfulPlace(this.random, this.fault);
    next.named = this.named;
    next.#durablyNamed = this.#durablyNamed;
    return next;
  }

  async open(): Promise<StateFile | undefined> {
    return this.named && new ForgetfulFile(this.named, this.fault, this.random);
  }

  async create(): Promise<StateFile> {
    this.#made = new CachedBytes();
    return new ForgetfulFile(this.#made, this.fault, this.random);
  }

  async publish(): Promise<void> {
    await sometime(this.random);
    this.fault('publish');
    this.named = this.#made;
  }

  async syncName(): Promise<void> {
    await sometime(this.random, SYNC_TURNS);
    this.fault('sync');
    this.#durablyNamed = this.named;
  }

  async discard(): Promise<void> {
    this.#made = undefined;
  }

  async remove(): Promise<void> {
    this.named = undefined;
  }
}

/** A target with a page cache. */
export class ForgetfulDevice implements BlockDevice {
  readonly name = '/target';
  readonly alignmentBytes = 1;
  readonly readOnly = false;

  constructor(
    readonly bytes: CachedBytes,
    readonly lengthBytes: number,
    readonly random?: Random,
    readonly fault: (operation: 'write' | 'flush') => void = () => undefined,
  ) {}

  async read(at: number, into: Uint8Array): Promise<void> {
    await sometime(this.random);
    this.bytes.cache.copy(into, 0, at, at + into.byteLength);
  }

  async write(at: number, from: Uint8Array): Promise<void> {
    const copy = Buffer.from(from);
    const middle = this.random?.integer(0, copy.length) ?? 0;
    this.fault('write');
    // Half of it may be there when the power goes.
    this.bytes.write(at, copy.subarray(0, middle));
    await sometime(this.random);
    this.fault('write');
    this.bytes.write(at + middle, copy.subarray(middle));
    await sometime(this.random);
  }

  async writeZeroes(at: number, lengthBytes: number): Promise<void> {
    await this.write(at, Buffer.alloc(lengthBytes));
  }

  async discard(): Promise<void> {}

  async flush(): Promise<void> {
    await sometime(this.random, SYNC_TURNS);
    this.fault('flush');
    this.bytes.sync();
    await sometime(this.random, SYNC_TURNS);
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    return [{ offsetBytes, lengthBytes, state: 'data' }];
  }

  async close(): Promise<void> {}
}
