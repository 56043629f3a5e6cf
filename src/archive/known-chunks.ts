// SPDX-License-Identifier: MIT
// What need not be stored again: chunks on their way into this run's packs, and chunks of earlier packs, each looked up
// in that pack's own table before it is believed.

import { TABLE_CHUNK_BYTES } from '../../formats/vmar/trailer.js';
import { VmarError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { PackState } from '../store/gc/pack-state.js';
import type { PackId } from '../store/layout.js';
import type { DatastoreChunks } from './datastore-chunks.js';

export class KnownChunks {
  readonly #chunks: DatastoreChunks;
  readonly #log: Log;
  readonly #state: PackState;
  readonly #own = new Set<PackId>();
  /** Noted, and not yet in the index; by id as a latin1 string. */
  readonly #underWay = new Set<string>();
  /** Earlier packs that hits were found in. */
  readonly packsHit = new Set<PackId>();
  /** Hits of the index that no pack confirmed: it was stale. */
  staleHits = 0;

  /** @param state as it was read after the session began */
  constructor(chunks: DatastoreChunks, state: PackState, log: Log) {
    this.#chunks = chunks;
    this.#state = state;
    this.#log = log;
  }

  has(id: Uint8Array): boolean {
    if (this.#underWay.size > 0 && this.#underWay.has(keyOf(id))) return true;
    const hit = this.#chunks.index.get(id);
    if (hit === undefined) return false;
    const { packId } = hit;
    // Nothing new rests on a pack that may be deleted: what it has is stored again.
    if (this.#state.isCondemned(packId) && !this.#own.has(packId)) return false;
    const found = this.#chunks.confirm(packId, id);
    if (found === 'here') this.packsHit.add(packId);
    else if (found === 'stale' && this.staleHits++ === 0) {
      this.#log.info('the chunk index is out of date: what it is wrong about is stored again, and the index put right');
    }
    return found === 'here';
  }

  note(id: Uint8Array): void {
    this.#underWay.add(keyOf(id));
  }

  /** A pack of this run is durable: its chunks go from memory into the index, for everyone. */
  async published(packId: PackId, pages: Iterable<Uint8Array>, footerSeal: Uint8Array): Promise<void> {
    const kept = [...pages];
    this.#own.add(packId);
    try {
      await this.#chunks.index.addPack(packId, footerSeal, kept);
    } catch (error) {
      // The index is a cache: without it this run still knows its chunks by memory, and the next run reads the pack.
      if (!(error instanceof VmarError)) throw error;
      this.#log.warn(`${error.message}; the backup goes on`);
      return;
    }
    for (const page of kept) {
      for (let at = 0; at < page.byteLength; at += TABLE_CHUNK_BYTES) {
        this.#underWay.delete(keyOf(page.subarray(at, at + 32)));
      }
    }
  }
}

function keyOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, 32).toString('latin1', 0, 32);
}
