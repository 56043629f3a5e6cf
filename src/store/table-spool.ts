// SPDX-License-Identifier: MIT
// Collects the entries of a container's trailer in bounded memory. A pack's fit in one run and never touch the disk; an
// archive of any size spills sorted runs to scratch files and merges them when it is closed.

import { closeSync, openSync, readSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { FailedError } from '../base/errors.js';
import type { StoreFile, StoreFs } from './fs.js';

/** Entries held before a run is spilled: 3 MiB of chunk entries. */
const RUN_ENTRIES = 65536;
const READ_BYTES = 64 * 1024;

/** Where runs are spilled to; the directory belongs to the writer's session and is removed with it. */
export interface SpillPlace {
  readonly fs: StoreFs;
  readonly directory: string;
}

/** Fixed-size entries in, the same entries out in order: as added, or sorted by their bytes up to `keyBytes`. */
export class TableSpool {
  readonly #entryBytes: number;
  readonly #keyBytes: number;
  readonly #place: SpillPlace;
  readonly #name: string;
  readonly #runs: { path: string; bytes: number }[] = [];
  #buffer: Buffer;
  #used = 0;
  #count = 0;

  /** `keyBytes` 0 keeps the order of adding. Entries of equal keys keep their order of adding. */
  constructor(place: SpillPlace, name: string, entryBytes: number, keyBytes: number) {
    this.#place = place;
    this.#name = name;
    this.#entryBytes = entryBytes;
    this.#keyBytes = keyBytes;
    this.#buffer = Buffer.alloc(256 * entryBytes);
  }

  get count(): number {
    return this.#count;
  }

  /** Room for one entry, to be filled at once; await `settle` from time to time. */
  next(): { bytes: Buffer; at: number } {
    if (this.#used === this.#buffer.length) {
      const larger = Buffer.alloc(this.#buffer.length * 2);
      this.#buffer.copy(larger);
      this.#buffer = larger;
    }
    const at = this.#used;
    this.#used += this.#entryBytes;
    this.#count++;
    return { bytes: this.#buffer, at };
  }

  /** Spills a run if enough has come together. */
  async settle(): Promise<void> {
    if (this.#used >= RUN_ENTRIES * this.#entryBytes) await this.#spill();
  }

  async #spill(): Promise<void> {
    const path = join(this.#place.directory, `${this.#name}-${this.#runs.length}`);
    const run = this.#takeRun();
    const file: StoreFile = await this.#place.fs.createFile(path);
    await file.write([run], 0);
    await file.close();
    this.#runs.push({ path, bytes: run.length });
    this.#buffer = Buffer.alloc(RUN_ENTRIES * this.#entryBytes);
  }

  #takeRun(): Buffer {
    const run = this.#buffer.subarray(0, this.#used);
    this.#used = 0;
    return this.#keyBytes === 0 ? run : sortEntries(run, this.#entryBytes, this.#keyBytes);
  }

  /** Yields blocks of whole entries in order, at most `blockEntries` each (only the last has fewer). Once only. */
  *blocks(blockEntries: number): Generator<Buffer> {
    if (this.#runs.length === 0) {
      const all = this.#takeRun();
      const step = blockEntries * this.#entryBytes;
      for (let at = 0; at < all.length; at += step) yield all.subarray(at, Math.min(all.length, at + step));
      return;
    }
    yield* gather(this.#merged(), blockEntries * this.#entryBytes);
  }

  *#merged(): Generator<Buffer> {
    const last = Buffer.from(this.#takeRun());
    const cursors = this.#runs.map((run) => new RunCursor(run.path, run.bytes, this.#entryBytes));
    cursors.push(RunCursor.over(last, this.#entryBytes));
    try {
      if (this.#keyBytes === 0) {
        for (const cursor of cursors) for (; cursor.entry !== undefined; cursor.advance()) yield cursor.entry;
        return;
      }
      for (;;) {
        let least: RunCursor | undefined;
        for (const cursor of cursors) {
          if (cursor.entry === undefined) continue;
          if (least?.entry === undefined || compareKeys(cursor.entry, least.entry, this.#keyBytes) < 0) least = cursor;
        }
        if (least?.entry === undefined) return;
        yield least.entry;
        least.advance();
      }
    } finally {
      for (const cursor of cursors) cursor.close();
      for (const run of this.#runs) unlinkSync(run.path);
    }
  }
}

function compareKeys(a: Buffer, b: Buffer, keyBytes: number): number {
  return a.compare(b, 0, keyBytes, 0, keyBytes);
}

/** Ids differ in their first six bytes, all but always: numbers of these are sorted, and bytes looked at for ties only. */
function sortEntries(run: Buffer, entryBytes: number, keyBytes: number): Buffer {
  const count = run.length / entryBytes;
  const ranks = new Float64Array(count);
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    ranks[i] = run.readUIntBE(i * entryBytes, 6);
    order[i] = i;
  }
  order.sort((a, b) => ranks[a]! - ranks[b]! || compareAt(run, a * entryBytes, b * entryBytes, keyBytes) || a - b);
  const sorted = Buffer.allocUnsafe(run.length);
  for (let i = 0; i < count; i++)
    run.copy(sorted, i * entryBytes, order[i]! * entryBytes, (order[i]! + 1) * entryBytes);
  return sorted;
}

function compareAt(run: Buffer, a: number, b: number, keyBytes: number): number {
  return run.compare(run, b, b + keyBytes, a, a + keyBytes);
}

function* gather(entries: Iterable<Buffer>, blockBytes: number): Generator<Buffer> {
  let block = Buffer.alloc(blockBytes);
  let used = 0;
  for (const entry of entries) {
    used += entry.copy(block, used);
    if (used < blockBytes) continue;
    yield block;
    block = Buffer.alloc(blockBytes);
    used = 0;
  }
  if (used > 0) yield block.subarray(0, used);
}

/** Walks one sorted run, a bounded piece of it in memory at a time. */
class RunCursor {
  /** The current entry, valid until `advance`; undefined at the end. */
  entry: Buffer | undefined;
  #fd: number;
  #left: number;
  #readAt = 0;
  #piece: Buffer;
  #at = 0;
  readonly #entryBytes: number;

  constructor(path: string, bytes: number, entryBytes: number, preset?: Buffer) {
    this.#entryBytes = entryBytes;
    this.#fd = preset === undefined ? openSync(path, 'r') : -1;
    this.#left = preset === undefined ? bytes : 0;
    this.#piece = preset ?? Buffer.alloc(0);
    this.advance();
  }

  static over(run: Buffer, entryBytes: number): RunCursor {
    return new RunCursor('', 0, entryBytes, run);
  }

  advance(): void {
    if (this.#at === this.#piece.length && this.#left > 0) this.#refill();
    if (this.#at === this.#piece.length) {
      this.entry = undefined;
      return;
    }
    this.entry = this.#piece.subarray(this.#at, this.#at + this.#entryBytes);
    this.#at += this.#entryBytes;
  }

  #refill(): void {
    const wanted = Math.min(this.#left, Math.floor(READ_BYTES / this.#entryBytes) * this.#entryBytes);
    const piece = Buffer.alloc(wanted);
    let got = 0;
    while (got < wanted) {
      const n = readSync(this.#fd, piece, got, wanted - got, this.#readAt + got);
      if (n === 0)
        throw new FailedError('scratch-short', 'a scratch file of this run got shorter', { advice: 'Run it again.' });
      got += n;
    }
    this.#piece = piece;
    this.#at = 0;
    this.#left -= wanted;
    this.#readAt += wanted;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
