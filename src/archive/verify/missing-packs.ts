// SPDX-License-Identifier: MIT
// Packs that are gone or cannot be opened: whoever misses chunks, and names such a pack in its manifest, misses them there.

import { type PackId, packPath } from '../../store/layout.js';
import type { DamageList } from './damage.js';

export class MissingPacks {
  readonly #root: string;
  readonly #damage: DamageList;
  readonly #present: ReadonlySet<PackId>;
  readonly #records = new Map<PackId, number>();

  constructor(root: string, damage: DamageList, present: ReadonlySet<PackId>) {
    this.#root = root;
    this.#damage = damage;
    this.#present = present;
  }

  /** There is a pack of that name, and the record says why it cannot be read. */
  setUnreadable(packId: PackId, record: number): void {
    this.#records.set(packId, record);
  }

  /**
   * The records of the packs of a list that cannot be read. A manifest's list may name packs that nobody needs, so a
   * pack that is gone is damage only if this is asked.
   */
  suspects(packIds: readonly PackId[]): readonly number[] {
    const suspects: number[] = [];
    for (const packId of packIds) {
      const known = this.#records.get(packId);
      if (known !== undefined) suspects.push(known);
      else if (!this.#present.has(packId)) suspects.push(this.#recordGone(packId));
    }
    return suspects;
  }

  #recordGone(packId: PackId): number {
    const file = packPath(this.#root, packId);
    const problem = 'the pack is gone, and chunks that are needed are nowhere else';
    const record = this.#damage.add({ file, offsetBytes: 0, lengthBytes: 0, kind: 'missing-chunk', problem });
    this.#records.set(packId, record);
    return record;
  }
}
