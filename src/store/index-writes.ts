// SPDX-License-Identifier: MIT
// Changes to the index, in batches that LMDB's own thread writes. Each leaves the index right if it is the last.

import { ID_BYTES } from '../../formats/vmar/hash.js';
import { TABLE_CHUNK_BYTES } from '../../formats/vmar/trailer.js';
import {
  HIT_BYTES,
  type IndexDbs,
  META,
  PLACE_BYTES,
  PLACE_OFFSET,
  packKey,
  readUint32,
  uint32,
  writeBatch,
} from './index-schema.js';

/** Entries of one batch: what a batch costs the calling thread stays below two milliseconds. */
const BATCH_ENTRIES = 4096;

export type Pages = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** The same entries in batches; each is valid until the next. */
export async function* inBatches(pages: Pages): AsyncGenerator<Uint8Array> {
  const batch = Buffer.allocUnsafeSlow(BATCH_ENTRIES * TABLE_CHUNK_BYTES);
  let used = 0;
  for await (const page of pages) {
    for (let at = 0; at < page.byteLength; ) {
      const taken = page.subarray(at, at + batch.length - used);
      batch.set(taken, used);
      used += taken.byteLength;
      at += taken.byteLength;
      if (used < batch.length) continue;
      yield batch;
      used = 0;
    }
  }
  if (used > 0) yield batch.subarray(0, used);
}

/** Numbers that no packs have had, from the one that is given on. */
export async function newPackNumbers({ alone, env, meta }: IndexDbs, count: number): Promise<number> {
  const transaction = () =>
    env.transaction(() => {
      const next = readUint32(meta.getBinary(META.next)) ?? 1;
      void meta.put(META.next, uint32(next + count));
      return next;
    });
  return await alone(transaction);
}

/** Takes in the entries of pack after pack; those of small packs share a batch. */
export class EntryWriter {
  readonly #dbs: IndexDbs;
  #count = 0;
  #ids = Buffer.alloc(0);
  #values = Buffer.alloc(0);

  constructor(dbs: IndexDbs) {
    this.#dbs = dbs;
  }

  /** Entries of a pack that does not count yet are no hits. */
  async add(number: number, entries: Uint8Array): Promise<void> {
    for (let from = 0; from < entries.byteLength; from += TABLE_CHUNK_BYTES) {
      if (this.#count === 0) this.#begin();
      const to = this.#count * HIT_BYTES;
      this.#values.writeUInt32LE(number, to);
      this.#values.set(entries.subarray(from + PLACE_OFFSET, from + PLACE_OFFSET + PLACE_BYTES), to + 4);
      this.#ids.set(entries.subarray(from, from + ID_BYTES), this.#count * ID_BYTES);
      if (++this.#count === BATCH_ENTRIES) await this.flush();
    }
  }

  /** Buffers of its own: whether LMDB has done with those of the last batch nobody can tell. */
  #begin(): void {
    this.#ids = Buffer.allocUnsafeSlow(BATCH_ENTRIES * ID_BYTES);
    this.#values = Buffer.allocUnsafeSlow(BATCH_ENTRIES * HIT_BYTES);
  }

  async flush(): Promise<void> {
    const ids = this.#ids;
    const values = this.#values;
    const count = this.#count;
    this.#count = 0;
    if (count === 0) return;
    await writeBatch(this.#dbs, () => {
      for (let at = 0; at < count; at++) {
        const id = ids.subarray(at * ID_BYTES, (at + 1) * ID_BYTES);
        void this.#dbs.chunks.put(id, values.subarray(at * HIT_BYTES, (at + 1) * HIT_BYTES));
      }
    });
  }
}

export interface NumberedPack {
  readonly number: number;
  /** 16 bytes. */
  readonly packId: Uint8Array;
  readonly footerSeal: Uint8Array;
}

/** From here on the packs count. */
export async function putPacks(dbs: IndexDbs, packs: readonly NumberedPack[]): Promise<void> {
  await writeBatch(dbs, () => {
    for (const { number, packId, footerSeal } of packs) {
      void dbs.packs.put(packKey(number), Buffer.concat([packId, footerSeal]));
    }
  });
}

/** From here on the pack does not count. */
export async function removePack(dbs: IndexDbs, number: number): Promise<void> {
  await writeBatch(dbs, () => void dbs.packs.remove(packKey(number)));
}

/** Frees the room of those entries that still point to one of the packs. */
export async function removeEntries(dbs: IndexDbs, numbers: ReadonlySet<number>, entries: Uint8Array): Promise<void> {
  const { chunks } = dbs;
  await writeBatch(dbs, () => {
    for (let at = 0; at + TABLE_CHUNK_BYTES <= entries.byteLength; at += TABLE_CHUNK_BYTES) {
      const id = entries.subarray(at, at + ID_BYTES);
      const value = chunks.getBinaryFast(id);
      if (value !== undefined && numbers.has(value.readUInt32LE(0))) void chunks.remove(id);
    }
  });
}
