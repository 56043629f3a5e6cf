// SPDX-License-Identifier: MIT
// Chunks that are not where the index says: all of them are looked for at once, in one pass through the tables of all
// containers. A lost pack has thousands of chunks, and a search for each would go through all packs as many times.

import type { HashName } from '../../../formats/vmar/hash.js';
import { VmarError } from '../../base/errors.js';
import { IdTable, wordsOf } from '../../store/gc/id-table.js';
import { chunkKey } from '../chunk-key.js';
import type { ChunkPlace, ChunkPlaces, ChunkSource, SearchedSource } from '../chunk-source.js';
import { SearchPass } from '../search-pass.js';
import type { TakeTurn } from '../turns.js';

/** Looked for in one pass: some ten MiB. */
const MOST_WAITING = 1 << 18;
const NOWHERE: ChunkPlaces = { places: [], passedOver: [] };

export class LostChunks implements ChunkSource {
  readonly #source: SearchedSource;
  readonly #takeTurn: TakeTurn;
  /** By key; not looked for yet. */
  #waiting = new Map<string, Uint8Array>();
  /** Of which nothing was found, not even a reason: whole packs may be lost, so these take no objects. */
  readonly #nowhere = new IdTable();
  readonly #found = new Map<string, ChunkPlaces>();
  /** Why containers could not be opened, in the last pass. */
  #unopened: readonly VmarError[] = [];
  #nextPass = 1;

  constructor(source: SearchedSource, takeTurn: TakeTurn) {
    this.#source = source;
    this.#takeTurn = takeTurn;
  }

  get hash(): HashName {
    return this.#source.hash;
  }

  locate(id: Uint8Array): ChunkPlace | undefined {
    return this.#source.locate(id);
  }

  /** Where a chunk is, by the containers' own tables; undefined if it was not looked for: it will be, in the next pass. */
  placesOf(id: Uint8Array): ChunkPlaces | undefined {
    const known = this.#known(id);
    if (known === undefined) this.#waiting.set(chunkKey(id), Uint8Array.prototype.slice.call(id));
    return known;
  }

  #known(id: Uint8Array): ChunkPlaces | undefined {
    const found = this.#found.get(chunkKey(id));
    if (found !== undefined) return found;
    return this.#nowhere.find(wordsOf(id), 0) < 0 ? undefined : NOWHERE;
  }

  /** Containers that nobody could look into, whatever they hold. */
  get unopened(): readonly VmarError[] {
    return this.#unopened;
  }

  /** Too many wait: nothing more should be asked for before the next pass. */
  get isFull(): boolean {
    return this.#waiting.size >= MOST_WAITING;
  }

  /** The number of the pass in which what is asked for now will be looked for. */
  get nextPass(): number {
    return this.#nextPass;
  }

  async locateAll(id: Uint8Array): Promise<ChunkPlaces> {
    return this.#known(id) ?? (await this.#source.locateAll(id));
  }

  /**
   * Looks for all that was asked for, unless `isOver` says between two containers that there is no time for it.
   * @returns whether all of it is known now; if not, none of it is
   */
  async look(isOver: () => boolean): Promise<boolean> {
    const pass = new SearchPass(this.#waiting);
    const unopened: VmarError[] = [];
    for await (const container of this.#source.containers()) {
      if (isOver()) return false;
      if (container instanceof VmarError) unopened.push(container);
      else pass.lookInto(container);
      await this.#takeTurn();
    }
    for (const [key, id] of this.#waiting) {
      const found = pass.found.get(key);
      if (found === undefined) this.#nowhere.add(wordsOf(id), 0);
      else this.#found.set(key, found);
      if (found !== undefined) await this.#source.learn?.(id, found.places);
    }
    this.#waiting = new Map();
    this.#unopened = unopened;
    this.#nextPass++;
    return true;
  }

  async checkReachable(): Promise<void> {
    await this.#source.checkReachable();
  }

  openAgain(): void {
    this.#source.openAgain();
  }

  async close(): Promise<void> {
    await this.#source.close();
  }
}
