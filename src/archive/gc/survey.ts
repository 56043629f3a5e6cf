// SPDX-License-Identifier: MIT
// What gc knows of a datastore: its packs, what manifests reach, and which pack is home to what.

import { setImmediate as letOthersRun } from 'node:timers/promises';
import type { KnownDamage } from '../../store/damage-list.js';
import type { Datastore } from '../../store/datastore.js';
import type { PackId } from '../../store/layout.js';
import { listManifests } from '../../store/manifests.js';
import { Copies } from './copies.js';
import { type GcPack, GcPacks } from './gc-packs.js';
import { refuseHidden } from './hidden-manifests.js';
import { Marks } from './mark.js';
import { PagePlaces } from './page-places.js';
import { Homes } from './sweep.js';

export interface SurveyOptions {
  readonly signal?: AbortSignal;
  /** More to do, and what is done of it, in bytes that are read, by and large. */
  readonly onMore?: (bytes: number) => void;
  readonly onProgress?: (bytes: number) => void;
}

/** What a manifest counts for in the progress, with its map: nobody knows before. */
const MANIFEST_BYTES = 64 << 10;

export class Survey {
  readonly packs: GcPacks;
  readonly marks: Marks;
  readonly homes: Homes;
  readonly copies: Copies;
  /** Manifests that were there at first. */
  backups = 0;
  /** Chunks that are needed and in no pack that can be read. */
  missingChunks = 0;
  readonly #store: Datastore;
  readonly #options: SurveyOptions;
  readonly #pages: PagePlaces;
  /** Packs whose pages can be found. */
  readonly #known = new Set<GcPack>();

  constructor(store: Datastore, options: SurveyOptions, known: KnownDamage) {
    this.#store = store;
    this.#options = options;
    this.packs = new GcPacks(store, known);
    this.#pages = new PagePlaces(this.packs, store.superblock.hash);
    this.marks = new Marks(this.#pages, options.signal);
    this.homes = new Homes(this.packs, this.marks);
    this.copies = new Copies(this.packs, this.marks, this.homes);
  }

  /**
   * Lists packs, then manifests, marks, and gives homes. In this order: what was in a pack before the manifests were
   * listed, and is reached by none of them, is nobody's but a session's that runs.
   * @throws DamageError if a manifest or a page of a map cannot be read, or a manifest lies where it is not found.
   */
  async make(condemned: ReadonlySet<PackId>): Promise<void> {
    const { onMore, onProgress, signal } = this.#options;
    this.packs.add(await this.#store.listPackIds(), condemned, true);
    const manifests = await listManifests(this.#store.root);
    await refuseHidden(manifests);
    await this.#takeInPacks(condemned);
    this.backups = manifests.entries.length;
    onMore?.(manifests.entries.length * MANIFEST_BYTES + 2 * tableBytes(this.packs.list));
    await this.marks.add(manifests, () => onProgress?.(MANIFEST_BYTES));
    await this.homes.assign((pack) => onProgress?.(tableBytes([pack])), signal);
    this.missingChunks = this.marks.live.countOf(0);
  }

  /** Packs that can be read as far as anybody has tried, and those that nobody needs to read any more. */
  get sound(): GcPack[] {
    return this.packs.list.filter((pack) => !this.packs.isDamaged(pack) || (pack.isBroken && this.missingChunks === 0));
  }

  /** Marks manifests that were committed meanwhile; whether there were any. What they need has no home yet, or has one. */
  async markNew(): Promise<boolean> {
    const manifests = await listManifests(this.#store.root);
    const before = this.marks.manifests.size;
    await this.#takeInPacks(new Set());
    await this.marks.add(manifests);
    return this.marks.manifests.size > before;
  }

  /** Packs that came since the last look: manifests may name them already. */
  async #takeInPacks(condemned: ReadonlySet<PackId>): Promise<void> {
    this.packs.add(await this.#store.listPackIds(), condemned, false);
    for (const pack of this.packs.list) {
      if (this.#known.has(pack)) continue;
      this.#known.add(pack);
      this.#pages.addPack(pack);
      await letOthersRun();
      this.#options.signal?.throwIfAborted();
    }
  }
}

function tableBytes(packs: readonly GcPack[]): number {
  return packs.reduce((sum, pack) => sum + 48 * pack.chunkCount, 0);
}
