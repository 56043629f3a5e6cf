// SPDX-License-Identifier: MIT
// Keeps this host's chunk index in step with what gc does, if there is one. Other hosts' find out when they are opened.

import { existsSync } from 'node:fs';
import { SEAL_BYTES } from '../../../formats/vmar/hash.js';
import { TABLE_CHUNK_BYTES } from '../../../formats/vmar/trailer.js';
import { VmarError } from '../../base/errors.js';
import type { ChunkIndex } from '../../store/chunk-index.js';
import type { ContainerReader } from '../../store/container-reader.js';
import type { Datastore } from '../../store/datastore.js';
import { wordsOf } from '../../store/gc/id-table.js';
import { indexDirectory, type PackId } from '../../store/layout.js';
import type { GcPack, GcPacks } from './gc-packs.js';
import type { Marks } from './mark.js';

export class GcIndex {
  readonly #store: Datastore;
  readonly #packs: GcPacks;
  readonly #marks: Marks;
  #index: Promise<ChunkIndex | undefined> | undefined;

  constructor(store: Datastore, packs: GcPacks, marks: Marks) {
    this.#store = store;
    this.#packs = packs;
    this.#marks = marks;
  }

  async addPack(packId: PackId, pages: Iterable<Uint8Array>, footerSeal: Uint8Array): Promise<void> {
    await this.#change(async (index) => await index.addPack(packId, footerSeal, pages));
  }

  /**
   * Takes a pack out that is gone; its file is still open. Where the index knows of a chunk that is needed only that it
   * is there, or was, the chunk's home is entered anew.
   */
  async removePack(pack: GcPack, reader: ContainerReader | undefined): Promise<void> {
    await this.#change(async (index) => {
      // Entries of a damaged one stay behind, and are no hits.
      const table = reader === undefined || pack.damage !== undefined ? [] : [...pagesOf(reader)];
      const homes = this.#homesBehind(index, pack, table);
      await index.removePack(pack.id, table);
      for (const home of homes) {
        const container = this.#packs.reader(home);
        await index.removePack(home.id);
        const seal = container.readBytes(container.fileBytes - SEAL_BYTES, SEAL_BYTES);
        await index.addPack(home.id, seal, pagesOf(container));
      }
    });
  }

  #homesBehind(index: ChunkIndex, pack: GcPack, table: Iterable<Uint8Array>): Set<GcPack> {
    const { live } = this.#marks;
    const homes = new Set<GcPack>();
    for (const entries of table) {
      const words = wordsOf(entries);
      for (let at = 0; at < entries.byteLength; at += TABLE_CHUNK_BYTES) {
        const slot = live.find(words, at / 4);
        const home = slot < 0 ? undefined : this.#packs.byNumber(live.value(slot));
        if (home === undefined || homes.has(home)) continue;
        const known = index.get(entries.subarray(at, at + 32))?.packId;
        if (known === undefined || known === pack.id) homes.add(home);
      }
    }
    return homes;
  }

  /** The index is a cache: what cannot be told to it now, it finds out by itself. */
  async #change(action: (index: ChunkIndex) => Promise<void>): Promise<void> {
    try {
      const index = await this.#opened();
      if (index !== undefined) await action(index);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      this.#index = Promise.resolve(undefined);
      this.#store.log.warn(`${error.message}; the index puts itself right when it is used next`);
    }
  }

  #opened(): Promise<ChunkIndex | undefined> {
    const { cacheDir, superblock } = this.#store;
    const isThere = existsSync(indexDirectory(cacheDir, superblock.storeUuid));
    this.#index ??= isThere ? this.#store.index() : Promise.resolve(undefined);
    return this.#index;
  }
}

function* pagesOf(reader: ContainerReader): Generator<Uint8Array> {
  for (let page = 0; page < reader.chunkPageCount; page++) yield reader.chunkPage(page);
}
