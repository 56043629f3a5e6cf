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

/** A number that no pack has had. */
export async function newPackNumber({ alone, env, meta }: IndexDbs): Promise<number> {
  const transaction = () =>
    env.transaction(() => {
      const next = readUint32(meta.getBinary(META.next)) ?? 1;
      void meta.put(META.next, uint32(next + 1));
      return next;
    });
  return await alone(transaction);
}

/** Entries of a pack that does not count yet are no hits. */
export async function putEntries(dbs: IndexDbs, number: number, entries: Uint8Array): Promise<void> {
  const count = entries.byteLength / TABLE_CHUNK_BYTES;
  const values = Buffer.allocUnsafeSlow(count * HIT_BYTES);
  await writeBatch(dbs, () => {
    for (let i = 0; i < count; i++) {
      const from = i * TABLE_CHUNK_BYTES;
      const to = i * HIT_BYTES;
      values.writeUInt32LE(number, to);
      values.set(entries.subarray(from + PLACE_OFFSET, from + PLACE_OFFSET + PLACE_BYTES), to + 4);
      void dbs.chunks.put(entries.subarray(from, from + ID_BYTES), values.subarray(to, to + HIT_BYTES));
    }
  });
}

/** From here on the pack counts. */
export async function putPack(
  dbs: IndexDbs,
  number: number,
  packId: Uint8Array,
  footerSeal: Uint8Array,
): Promise<void> {
  const record = Buffer.concat([packId, footerSeal]);
  await writeBatch(dbs, () => void dbs.packs.put(packKey(number), record));
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
