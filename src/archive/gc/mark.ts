// SPDX-License-Identifier: MIT
// Marks what manifests reach. A page that was met is not read again, so the cost goes with pages that differ, whatever
// the number of backups.

import { setImmediate as letOthersRun } from 'node:timers/promises';
import { clusterCount, mapLevels } from '../../../formats/vmar/map.js';
import { DamageError, VmarError } from '../../base/errors.js';
import { formatBackupId } from '../../store/backup-id.js';
import { manifestKey } from '../../store/gc/fossil-record.js';
import { IdTable, isZeroAt, wordsOf } from '../../store/gc/id-table.js';
import type { ManifestList, StoredManifest } from '../../store/manifests.js';
import type { PagePlaces } from './page-places.js';

/** Pages read before signals and timers get their turn: some milliseconds' worth. */
const PAGES_AT_ONCE = 256;
const ID_WORDS = 8;

export class Marks {
  /** Every chunk that is reached, data and pages. The numbers are for the sweep: 0 until it has placed the chunk. */
  readonly live = new IdTable();
  /** `manifestKey`s of the manifests. */
  readonly manifests = new Set<string>();
  /** Where they lie, by their keys. */
  readonly files = new Map<string, string>();
  /** Packs that they name. */
  readonly named = new Set<string>();
  readonly #pages: PagePlaces;
  readonly #signal: AbortSignal | undefined;
  #read = 0;

  constructor(pages: PagePlaces, signal: AbortSignal | undefined) {
    this.#pages = pages;
    this.#signal = signal;
  }

  /**
   * Marks the manifests of a list that were not marked before; `onManifest` is told of each.
   * @throws DamageError if one cannot be read, or a page of its maps: what it reaches is unknown then.
   */
  async add({ entries, damaged }: ManifestList, onManifest: () => void = () => {}): Promise<void> {
    const [first] = damaged;
    if (first !== undefined) throw refusal(formatBackupId(first.ref), first.error);
    for (const entry of entries) {
      const key = manifestKey(entry.digest);
      if (!this.manifests.has(key)) await this.#addManifest(entry);
      this.manifests.add(key);
      this.files.set(key, entry.path);
      onManifest();
    }
  }

  async #addManifest({ ref, manifest }: StoredManifest): Promise<void> {
    for (const packId of manifest.packs) this.named.add(packId);
    for (const { mapRoot, sizeBytes, clusterSizeBytes, name } of manifest.disks) {
      const levels = mapLevels(clusterCount(sizeBytes, clusterSizeBytes), manifest.mapFanout);
      const root = wordsOf(mapRoot);
      if (levels === 0 || isZeroAt(root, 0) || !this.live.add(root, 0)) continue;
      try {
        await this.#page(mapRoot, levels);
      } catch (error) {
        if (error instanceof VmarError) throw refusal(`${formatBackupId(ref)}:${name}`, error);
        throw error;
      }
    }
  }

  /** A page that was not met before. */
  async #page(id: Uint8Array, level: number): Promise<void> {
    if (this.#read++ % PAGES_AT_ONCE === 0) {
      await letOthersRun();
      this.#signal?.throwIfAborted();
    }
    const page = this.#pages.read(id, level);
    const words = wordsOf(page);
    for (let at = 0; at < words.length; at += ID_WORDS) {
      if (isZeroAt(words, at) || !this.live.add(words, at) || level === 1) continue;
      await this.#page(page.subarray(at * 4, at * 4 + 32), level - 1);
    }
  }
}

function refusal(backup: string, error: VmarError): VmarError {
  const message = `nothing is collected, since nobody can tell what ${backup} needs: ${error.message}`;
  if (!(error instanceof DamageError)) return error;
  const { object, offsetBytes, cause } = error;
  return new DamageError('unknown-needs', message, {
    ...(object === undefined ? {} : { object }),
    ...(offsetBytes === undefined ? {} : { offsetBytes }),
    advice: 'See `vmar verify`. Restore what can be had of the backup, then `vmar forget` it, and collect again.',
    cause: cause ?? error,
  });
}
