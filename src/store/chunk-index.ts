// SPDX-License-Identifier: MIT
// Where chunks lie, by id: a cache of the packs' own tables, one per host, that can be deleted at any time. It is never
// trusted: whoever acts on a hit checks it. A wrong index costs time or space, never data.

import { join } from 'node:path';
import { fromHex, toHex } from '../base/bytes.js';
import { BugError, FailedError, NotFoundError, VmarError } from '../base/errors.js';
import { type Log, SILENT } from '../base/log.js';
import { IndexFiles } from './index-files.js';
import { trimMap } from './index-memory.js';
import { claimFor, HIT_BYTES, type IndexDbs, openDbs, packKey, requireRoom } from './index-schema.js';
import { statePaths } from './index-state.js';
import {
  EntryWriter,
  inBatches,
  type NumberedPack,
  newPackNumbers,
  type Pages,
  putPacks,
  removeEntries,
  removePack,
} from './index-writes.js';
import type { PackId } from './layout.js';
import type { PackTable } from './stored-packs.js';

/** A get makes at most one page and its neighbours resident, 64 KiB: 64 MiB in all. */
const GETS_BETWEEN_TRIMS = 1024;

/** Packs that are added together when the index is brought up to date: small ones take no transactions of their own. */
const GROUP_PACKS = 64;

/** Where a chunk lies, if the index is right. One object, filled anew by each `get`. */
export interface IndexHit {
  packId: PackId;
  /** In the pack's frame table. */
  frame: number;
  /** In the frame's raw bytes. */
  offsetBytes: number;
  lengthBytes: number;
}

/** The packs that there are; of those that the index lacks the wanted ones are added, all by default, in this order. */
export interface PacksForIndex {
  readonly ids: Iterable<PackId>;
  readonly isWanted?: (packId: PackId) => boolean;
}

export interface Reconciled {
  readonly added: number;
  readonly removed: number;
  /** Packs that are not in the index because their tables could not be read. */
  readonly unreadable: { readonly packId: PackId; readonly error: unknown }[];
}

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
  #closed = false;

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
    const dbs = openDbs(path, async (action) => await action());
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
    checkPack(packId, footerSeal);
    await this.#writing(async () => {
      const number = await newPackNumbers(this.#dbs, 1);
      const writer = new EntryWriter(this.#dbs);
      for await (const page of entries) await writer.add(number, page);
      await writer.flush();
      await this.#count([checkPack(packId, footerSeal, number)]);
    });
  }

  /** The packs are whole in the index, and are hits from here on. */
  async #count(packs: readonly NumberedPack[]): Promise<void> {
    await putPacks(this.#dbs, packs);
    for (const { number, packId } of packs) this.#packs.set(number, toHex(packId));
  }

  /** Adds packs together, as far as their tables can be read. How many these are. */
  async #addGroup(
    packIds: readonly PackId[],
    readTable: (packId: PackId) => Promise<PackTable>,
    unreadable: (packId: PackId, error: unknown) => void,
  ): Promise<number> {
    const whole: NumberedPack[] = [];
    await this.#writing(async () => {
      const first = await newPackNumbers(this.#dbs, packIds.length);
      const writer = new EntryWriter(this.#dbs);
      for (const [at, packId] of packIds.entries()) {
        try {
          const { footerSeal, pages } = await readTable(packId);
          for await (const page of pages) await writer.add(first + at, page);
          whole.push(checkPack(packId, footerSeal, first + at));
        } catch (error) {
          if (!(error instanceof VmarError) || error.code.startsWith('index-')) throw error;
          unreadable(packId, error);
        }
      }
      await writer.flush();
      await this.#count(whole);
    });
    return whole.length;
  }

  /**
   * Takes a pack out: none of its entries is a hit from then on. With its table's entries their room is freed too.
   */
  async removePack(packId: PackId, entries: Pages = []): Promise<void> {
    await this.#writing(async () => {
      this.#refresh();
      const numbers = new Set([...this.#packs].filter(([, id]) => id === packId).map(([number]) => number));
      for (const number of numbers) {
        await removePack(this.#dbs, number);
        this.#packs.delete(number);
      }
      for await (const batch of inBatches(entries)) await removeEntries(this.#dbs, numbers, batch);
    });
  }

  /**
   * Brings the index in line with the packs there are: adds those it lacks, takes out those that are gone. A pack whose
   * table cannot be read is left out and reported. The packs are listed after the index was looked at: one that another
   * process adds meanwhile is not taken for gone.
   * @throws FailedError (`index-failed`) if the index cannot be written; it can be used as far as it goes.
   */
  async reconcile(
    listPacks: (known: ReadonlySet<PackId>) => Promise<PacksForIndex>,
    readTable: (packId: PackId) => Promise<PackTable>,
  ): Promise<Reconciled> {
    const known = this.packs();
    const { ids, isWanted = () => true } = await listPacks(known);
    const there = new Set(ids);
    const unreadable: { packId: PackId; error: unknown }[] = [];
    const lacking = [...there].filter((packId) => !known.has(packId) && isWanted(packId));
    let added = 0;
    let removed = 0;
    for (let at = 0; at < lacking.length; at += GROUP_PACKS) {
      added += await this.#addGroup(lacking.slice(at, at + GROUP_PACKS), readTable, (packId, error) => {
        // One that went away while we were looking is not missed.
        if (!(error instanceof NotFoundError)) unreadable.push({ packId, error });
      });
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

  /** Waits for what is being written; nothing but `close` may be called afterwards. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#files !== undefined) await this.#files.close();
    else await this.#dbs.env.close();
  }
}

function checkPack(packId: PackId, footerSeal: Uint8Array, number = 0): NumberedPack {
  const bytes = fromHex(packId, 16);
  if (bytes === undefined || footerSeal.byteLength !== 16) throw new BugError(`${packId} is no pack to add`);
  return { number, packId: bytes, footerSeal };
}
