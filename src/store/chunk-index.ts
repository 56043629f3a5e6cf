// SPDX-License-Identifier: MIT
// Where chunks lie, by id: a cache of the packs' own tables, one per host, that can be deleted at any time. It is never
// trusted: whoever acts on a hit checks it. A wrong index costs time or space, never data.

import { join } from 'node:path';
import { ID_BYTES } from '../../formats/vmar/hash.js';
import { TABLE_CHUNK_BYTES } from '../../formats/vmar/trailer.js';
import { fromHex, toHex } from '../base/bytes.js';
import { BugError, FailedError, NotFoundError, VmarError } from '../base/errors.js';
import { type Log, SILENT } from '../base/log.js';
import { IndexFiles } from './index-files.js';
import { trimMap } from './index-memory.js';
import {
  claimFor,
  HIT_BYTES,
  type IndexDbs,
  META,
  openDbs,
  PLACE_BYTES,
  PLACE_OFFSET,
  packKey,
  readUint32,
  requireRoom,
  uint32,
  writeBatch,
} from './index-schema.js';
import { statePaths } from './index-state.js';
import type { PackId } from './layout.js';
import type { PackTable } from './stored-packs.js';

/** Entries of one batch: what a batch costs the calling thread stays below two milliseconds. */
const BATCH_ENTRIES = 4096;

/** A get touches one page that was not touched before, at most: 64 MiB. */
const GETS_BETWEEN_TRIMS = 16384;

/** Where a chunk lies, if the index is right. One object, filled anew by each `get`. */
export interface IndexHit {
  packId: PackId;
  /** In the pack's frame table. */
  frame: number;
  /** In the frame's raw bytes. */
  offsetBytes: number;
  lengthBytes: number;
}

export interface Reconciled {
  readonly added: number;
  readonly removed: number;
  /** Packs that are not in the index because their tables could not be read. */
  readonly unreadable: { readonly packId: PackId; readonly error: unknown }[];
}

export type Pages = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

export class ChunkIndex {
  readonly #dbs: IndexDbs;
  readonly #files: IndexFiles | undefined;
  readonly #directory: string;
  readonly #log: Log;
  /** By number; what this process has seen of `packs`. */
  readonly #packs = new Map<number, PackId>();
  readonly #hit: IndexHit = { packId: '', frame: 0, offsetBytes: 0, lengthBytes: 0 };
  readonly #dataPath: string;
  #gets = 0;
  #failed = false;

  private constructor(dbs: IndexDbs, environment: string, log: Log, files: IndexFiles | undefined) {
    this.#dbs = dbs;
    this.#directory = files?.directory ?? environment;
    this.#log = log;
    this.#files = files;
    this.#dataPath = join(environment, 'data.mdb');
    this.#refresh();
  }

  /**
   * Opens the host's index of a datastore, in a directory of its own below `cacheDir`. One that is damaged, torn by a
   * power cut, or of something else is replaced by an empty one, which `log.info` says; `reconcile` fills it.
   */
  static async open(
    cacheDir: string,
    store: { readonly storeUuid: Uint8Array },
    log: Log = SILENT,
  ): Promise<ChunkIndex> {
    const files = await IndexFiles.open(cacheDir, store.storeUuid, log);
    return new ChunkIndex(files.dbs, statePaths(files.directory).environment, log, files);
  }

  /** An index for one run, in a directory that its owner removes after it is closed. */
  static async openTemporary(directory: string): Promise<ChunkIndex> {
    const path = join(directory, 'index');
    const dbs = openDbs(path);
    claimFor(dbs, Buffer.alloc(16));
    return new ChunkIndex(dbs, path, SILENT, undefined);
  }

  /** The likely place of a chunk. The hit is valid until the next call. */
  get(id: Uint8Array): IndexHit | undefined {
    if (++this.#gets % GETS_BETWEEN_TRIMS === 0) trimMap(this.#dataPath);
    const value = this.#read(id);
    if (value === undefined || value.length !== HIT_BYTES) return undefined;
    const frame = value.readUInt32LE(4);
    const offsetBytes = value.readUInt32LE(8);
    const lengthBytes = value.readUInt32LE(12);
    const number = value.readUInt32LE(0);
    const packId = this.#packs.get(number) ?? this.#lookUpPack(number);
    if (packId === undefined) return undefined;
    const hit = this.#hit;
    hit.packId = packId;
    hit.frame = frame;
    hit.offsetBytes = offsetBytes;
    hit.lengthBytes = lengthBytes;
    return hit;
  }

  #read(id: Uint8Array): Buffer | undefined {
    try {
      return this.#dbs.chunks.getBinaryFast(id);
    } catch (error) {
      if (!this.#failed) this.#log.warn(`the chunk index in ${this.#directory} cannot be read: ${String(error)}`);
      this.#failed = true;
      return undefined;
    }
  }

  /** A pack that another process added since. */
  #lookUpPack(number: number): PackId | undefined {
    const record = this.#dbs.packs.getBinary(packKey(number));
    if (record === undefined) return undefined;
    const id = toHex(record.subarray(0, 16));
    this.#packs.set(number, id);
    return id;
  }

  #refresh(): void {
    this.#packs.clear();
    for (const { key, value } of this.#dbs.packs.getRange()) {
      this.#packs.set(Buffer.from(key).readUInt32BE(0), toHex(value.subarray(0, 16)));
    }
  }

  /** The ids of all packs in the index, as it is now. */
  packs(): Set<PackId> {
    this.#refresh();
    return new Set(this.#packs.values());
  }

  /**
   * Adds a pack: `entries` are those of its chunk table, 48 bytes each, end to end, in order. The pack counts once the
   * promise resolves; if the process dies before, it does not, and can be added again. Entries that were there of the
   * same chunks are replaced. The caller calls it only when the pack is durable.
   * @throws FailedError if the index cannot be written, which is no reason to give up a backup.
   */
  async addPack(packId: PackId, footerSeal: Uint8Array, entries: Pages): Promise<void> {
    const idBytes = fromHex(packId, 16);
    if (idBytes === undefined || footerSeal.byteLength !== 16) throw new BugError(`${packId} is no pack to add`);
    await this.#writing(async () => {
      const { env, packs } = this.#dbs;
      const record = Buffer.concat([idBytes, footerSeal]);
      const number = await this.#newNumber();
      for await (const batch of inBatches(entries)) await this.#putEntries(number, batch);
      await writeBatch(env, () => void packs.put(packKey(number), record));
      this.#packs.set(number, packId);
    });
  }

  async #newNumber(): Promise<number> {
    const { env, meta } = this.#dbs;
    return await env.transaction(() => {
      const next = readUint32(meta.getBinary(META.next)) ?? 1;
      void meta.put(META.next, uint32(next + 1));
      return next;
    });
  }

  /** One batch; LMDB's own thread writes it. */
  async #putEntries(number: number, entries: Uint8Array): Promise<void> {
    const { env, chunks } = this.#dbs;
    const count = entries.byteLength / TABLE_CHUNK_BYTES;
    const values = Buffer.allocUnsafeSlow(count * HIT_BYTES);
    await writeBatch(env, () => {
      for (let i = 0; i < count; i++) {
        const from = i * TABLE_CHUNK_BYTES;
        const to = i * HIT_BYTES;
        values.writeUInt32LE(number, to);
        values.set(entries.subarray(from + PLACE_OFFSET, from + PLACE_OFFSET + PLACE_BYTES), to + 4);
        void chunks.put(entries.subarray(from, from + ID_BYTES), values.subarray(to, to + HIT_BYTES));
      }
    });
  }

  /**
   * Takes a pack out: none of its entries is a hit from then on. With its table's entries their room is freed too.
   */
  async removePack(packId: PackId, entries: Pages = []): Promise<void> {
    await this.#writing(async () => {
      this.#refresh();
      const numbers = new Set([...this.#packs].filter(([, id]) => id === packId).map(([number]) => number));
      const { env, packs } = this.#dbs;
      for (const number of numbers) await writeBatch(env, () => void packs.remove(packKey(number)));
      for (const number of numbers) this.#packs.delete(number);
      for await (const batch of inBatches(entries)) await this.#removeEntries(numbers, batch);
    });
  }

  async #removeEntries(numbers: ReadonlySet<number>, entries: Uint8Array): Promise<void> {
    const { env, chunks } = this.#dbs;
    await writeBatch(env, () => {
      for (let at = 0; at + TABLE_CHUNK_BYTES <= entries.byteLength; at += TABLE_CHUNK_BYTES) {
        const id = entries.subarray(at, at + ID_BYTES);
        const value = this.#read(id);
        if (value !== undefined && numbers.has(value.readUInt32LE(0))) void chunks.remove(id);
      }
    });
  }

  /**
   * Brings the index in line with the packs there are: adds those it lacks, takes out those that are gone. A pack whose
   * table cannot be read is left out and reported.
   * @throws FailedError (`index-failed`) if the index cannot be written; it can be used as far as it goes.
   */
  async reconcile(packIds: Iterable<PackId>, readTable: (packId: PackId) => Promise<PackTable>): Promise<Reconciled> {
    const there = new Set(packIds);
    const known = this.packs();
    const unreadable: { packId: PackId; error: unknown }[] = [];
    let added = 0;
    let removed = 0;
    for (const packId of there) {
      if (known.has(packId)) continue;
      try {
        const { footerSeal, pages } = await readTable(packId);
        await this.addPack(packId, footerSeal, pages);
        added++;
      } catch (error) {
        if (error instanceof FailedError && error.code === 'index-failed') throw error;
        // One that went away while we were looking is not missed.
        if (!(error instanceof NotFoundError)) unreadable.push({ packId, error });
      }
    }
    for (const packId of known) {
      if (there.has(packId)) continue;
      await this.removePack(packId);
      removed++;
    }
    return { added, removed, unreadable };
  }

  async #writing(action: () => Promise<void>): Promise<void> {
    try {
      await requireRoom(this.#directory);
      this.#files?.markDirty();
      await action();
    } catch (error) {
      if (error instanceof VmarError) throw error;
      throw new FailedError('index-failed', `the chunk index cannot be written: ${String(error)}`, {
        object: this.#directory,
        advice: 'Free space there, or name another cache directory with VMAR_CACHE_DIR.',
        cause: error,
      });
    }
  }

  /** Waits for what is being written; nothing may be called afterwards. */
  async close(): Promise<void> {
    if (this.#files !== undefined) await this.#files.close();
    else await this.#dbs.env.close();
  }
}

/** The same entries in batches; each is valid until the next. */
async function* inBatches(pages: Pages): AsyncGenerator<Uint8Array> {
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
