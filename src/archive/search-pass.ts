// SPDX-License-Identifier: MIT
// One pass through the tables of containers, for many chunks at once.

import { decodeTableChunk, TABLE_CHUNK_BYTES, type TableChunk } from '../../formats/vmar/table.js';
import { DamageError, VmarError } from '../base/errors.js';
import type { ContainerReader } from '../store/container-reader.js';
import { IdTable, wordsOf } from '../store/gc/id-table.js';
import { chunkKey } from './chunk-key.js';
import type { ChunkPlace } from './chunk-source.js';

/** Of a container with so many times more chunks than are looked for, single pages are read instead of the whole table. */
const FEW = 16;

interface Found {
  readonly places: ChunkPlace[];
  readonly passedOver: VmarError[];
}

/** One pass through the containers. */
export class SearchPass {
  readonly found = new Map<string, Found>();
  readonly #ids: ReadonlyMap<string, Uint8Array>;
  /** Rules out nearly all that a table holds. */
  readonly #filter = new IdTable();

  constructor(ids: ReadonlyMap<string, Uint8Array>) {
    this.#ids = ids;
    for (const id of ids.values()) this.#filter.add(wordsOf(id), 0);
  }

  lookInto(container: ContainerReader): void {
    const inIt = this.#ids.size * FEW < container.footer.chunkCount ? undefined : this.#inTable(container);
    if (inIt === undefined) this.#lookForEach(container);
    else for (const [key, chunk] of inIt) this.#foundAt(key).places.push({ container, ...chunk });
  }

  /** What its table has of them; undefined if not all of the table can be read. */
  #inTable(container: ContainerReader): Map<string, TableChunk> | undefined {
    const inIt = new Map<string, TableChunk>();
    try {
      for (let page = 0; page < container.chunkPageCount; page++) {
        const entries = container.chunkPage(page);
        const words = wordsOf(entries);
        for (let at = 0; at < entries.byteLength; at += TABLE_CHUNK_BYTES) {
          if (this.#filter.find(words, at / 4) < 0) continue;
          const key = chunkKey(entries.subarray(at));
          if (this.#ids.has(key) && !inIt.has(key)) inIt.set(key, decodeTableChunk(entries, at, container.path));
        }
      }
      return inIt;
    } catch (error) {
      if (error instanceof DamageError) return undefined;
      throw error;
    }
  }

  /** Damage of a page concerns only those that would stand in it. */
  #lookForEach(container: ContainerReader): void {
    for (const [key, id] of this.#ids) {
      try {
        const chunk = container.find(id);
        if (chunk !== undefined) this.#foundAt(key).places.push({ container, ...chunk });
      } catch (error) {
        if (!(error instanceof VmarError)) throw error;
        this.#foundAt(key).passedOver.push(error);
      }
    }
  }

  #foundAt(key: string): Found {
    let found = this.found.get(key);
    if (found === undefined) {
      found = { places: [], passedOver: [] };
      this.found.set(key, found);
    }
    return found;
  }
}
