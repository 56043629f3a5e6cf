// SPDX-License-Identifier: MIT
// Whether a chunk can be had, by the tables of containers that were checked. The index is asked first and never believed.

import { DamageError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { chunkKey } from '../chunk-key.js';
import type { ChunkPlace, ChunkPlaces } from '../chunk-source.js';
import type { DamageList } from './damage.js';
import type { DamagedPlaces } from './damaged-places.js';
import type { LostChunks } from './lost-chunks.js';

/** Checks a container before anything in it is counted on; does nothing if that was done. */
export type EnsureChecked = (container: ContainerReader) => Promise<void>;

/** What a chunk must be to stand where it stands. */
export interface Wanted {
  readonly id: Uint8Array;
  readonly kind: number;
  readonly lengthBytes: number;
}

export class GoodPlaces {
  readonly lost: LostChunks;
  readonly #damage: DamageList;
  readonly #damagedPlaces: DamagedPlaces;
  readonly #ensureChecked: EnsureChecked;
  readonly #checked = new Set<string>();
  /** Chunks that are in no good place although they are in one, or may be, and the records of why. */
  readonly #bad = new Map<string, readonly number[]>();

  constructor(lost: LostChunks, damage: DamageList, damagedPlaces: DamagedPlaces, ensureChecked: EnsureChecked) {
    this.lost = lost;
    this.#damage = damage;
    this.#damagedPlaces = damagedPlaces;
    this.#ensureChecked = ensureChecked;
  }

  /**
   * 'good' if some container has the chunk and is not damaged there; else the records of damage that are why, none if
   * it is in no container at all. 'unknown' if `lost` has to look for it first.
   */
  async look(wanted: Wanted): Promise<'good' | 'unknown' | readonly number[]> {
    const likely = this.#likely(wanted.id);
    if (likely !== undefined && (await this.#damageAt(likely, wanted)) === 'none') return 'good';
    const found = this.lost.placesOf(wanted.id);
    if (found === undefined) return 'unknown';
    const key = `${chunkKey(wanted.id)}${wanted.kind}:${wanted.lengthBytes}`;
    const known = this.#bad.get(key);
    if (known !== undefined) return known;
    const why = await this.#lookAt(wanted, found);
    if (why !== 'good' && why.length > 0) this.#bad.set(key, why);
    return why;
  }

  #likely(id: Uint8Array): ChunkPlace | undefined {
    try {
      return this.lost.locate(id);
    } catch (error) {
      if (error instanceof DamageError) return undefined;
      throw error;
    }
  }

  async #lookAt(wanted: Wanted, { places, passedOver }: ChunkPlaces): Promise<'good' | readonly number[]> {
    const records = new Set(this.#damage.of(wanted.id));
    for (const place of places) {
      const damage = await this.#damageAt(place, wanted);
      if (damage === 'none') return 'good';
      for (const record of damage) records.add(record);
    }
    for (const { object, offsetBytes } of [...passedOver, ...this.lost.unopened]) {
      const record = this.#damage.at(object, offsetBytes);
      // A container that cannot be opened at all may have nothing to do with the chunk: its ids tell, as far as they can
      // be read, and the backup's list of packs.
      if (record !== undefined && this.#damage.records[record]?.kind !== 'container') records.add(record);
    }
    return [...records];
  }

  /** Why the chunk is not to be had from a container, by its own table. */
  async #damageAt({ container }: ChunkPlace, wanted: Wanted): Promise<'none' | readonly number[]> {
    if (!this.#checked.has(container.path)) {
      await this.#ensureChecked(container);
      this.#checked.add(container.path);
    }
    try {
      const entry = container.find(wanted.id);
      if (entry === undefined || entry.kind !== wanted.kind || entry.lengthBytes !== wanted.lengthBytes) return [];
      const records = this.#damagedPlaces.of(container, entry.frame, wanted.id);
      return records.length === 0 ? 'none' : records;
    } catch (error) {
      if (error instanceof DamageError) return [];
      throw error;
    }
  }
}
