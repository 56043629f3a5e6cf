// SPDX-License-Identifier: MIT
// All maps of a datastore to look into, without the chunk index: the packs' own tables say where pages are.

import { setImmediate as letOthersRun } from 'node:timers/promises';
import type { Datastore } from '../../store/datastore.js';
import { GcPacks, type UnreadablePack } from '../gc/gc-packs.js';
import { PagePlaces } from '../gc/page-places.js';

export class OpenMaps {
  readonly packs: GcPacks;
  readonly pages: PagePlaces;

  private constructor(store: Datastore) {
    this.packs = new GcPacks(store);
    this.pages = new PagePlaces(this.packs, store.superblock.hash);
  }

  /** Opens the packs that are there now. The caller has a session, and has listed the manifests that it looks at. */
  static async open(store: Datastore, signal?: AbortSignal): Promise<OpenMaps> {
    const maps = new OpenMaps(store);
    maps.packs.add(await store.listPackIds(), new Set(), false);
    for (const pack of maps.packs.list) {
      maps.pages.addPack(pack);
      await letOthersRun();
      signal?.throwIfAborted();
    }
    return maps;
  }

  /** Packs that could not be read, or not wholly, so far. */
  get unreadable(): UnreadablePack[] {
    return [...this.packs.unreadable.values()];
  }

  /** One page of a map. @throws DamageError if no sound copy is found. */
  async read(id: Uint8Array, level: number): Promise<Uint8Array> {
    return this.pages.read(id, level);
  }

  close(): void {
    this.packs.closeAll();
  }
}
