// SPDX-License-Identifier: MIT
// What of a parent is known to be damaged: nothing of it is taken over unread, so that it is stored anew and earlier
// backups that share it are whole again.
//
// Guarantee: every chunk of the parent that the damage list speaks of, and that the index knows nowhere else, is lost here;
// where that cannot be told chunk by chunk, `fault` says why the parent is of no use.

import type { Manifest } from '../../formats/vmar/manifest.js';
import { TABLE_CHUNK_BYTES } from '../../formats/vmar/trailer.js';
import { toHex } from '../base/bytes.js';
import { DamageError, VmarError } from '../base/errors.js';
import type { DamagedPack, KnownDamage } from '../store/damage-list.js';
import { IdTable, wordsOf } from '../store/gc/id-table.js';
import type { PackId } from '../store/layout.js';
import { ChunkReader } from './chunk-reader.js';
import type { DatastoreChunks } from './datastore-chunks.js';
import { isZeroId, type MapPage, MapReader } from './map-reader.js';

/** Reading the whole disk is better than this many single chunks. */
const MOST_LOST = 1 << 19;
const FRAME_OFFSET = 32;

export interface LostRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export class ParentDamage {
  /** Why the parent is not to be used at all. */
  readonly fault: string | undefined;
  readonly #lost: IdTable;

  private constructor(lost: IdTable, fault: string | undefined) {
    this.#lost = lost;
    this.fault = fault;
  }

  /** @param packs what the parent rests on */
  static of(chunks: DatastoreChunks, known: KnownDamage, packs: readonly PackId[]): ParentDamage {
    const lost = new IdTable();
    for (const packId of packs) {
      const damaged = known.packs.get(packId);
      const fault = damaged === undefined ? undefined : addLost(lost, chunks, damaged);
      if (fault !== undefined) return new ParentDamage(lost, fault);
    }
    return new ParentDamage(lost, undefined);
  }

  get isNone(): boolean {
    return this.fault === undefined && this.#lost.count === 0;
  }

  isLost(id: Uint8Array): boolean {
    return this.#lost.count > 0 && this.#lost.find(wordsOf(id.subarray(0, 32)), 0) >= 0;
  }

  /** What of a disk must be read again, by its map in the parent: ranges of whole clusters, in order. */
  async rangesIn(map: MapReader, clusterSizeBytes: number, sizeBytes: number): Promise<LostRange[]> {
    const ranges: { offsetBytes: number; lengthBytes: number }[] = [];
    if (this.isNone || map.levels === 0) return ranges;
    const add = (firstCluster: number, count: number): void => {
      const offsetBytes = firstCluster * clusterSizeBytes;
      const end = Math.min(sizeBytes, offsetBytes + count * clusterSizeBytes);
      const last = ranges.at(-1);
      if (last !== undefined && last.offsetBytes + last.lengthBytes >= offsetBytes) {
        last.lengthBytes = Math.max(last.lengthBytes, end - last.offsetBytes);
      } else ranges.push({ offsetBytes, lengthBytes: end - offsetBytes });
    };
    await this.#walk(map, map.levels, 0, add);
    return ranges;
  }

  async #walk(
    map: MapReader,
    level: number,
    index: number,
    add: (firstCluster: number, count: number) => void,
  ): Promise<void> {
    const span = map.fanout ** level;
    let page: MapPage;
    try {
      page = await map.page(level, index);
      // Anything below it that is read again has it made and stored anew.
      if (page !== 'zero' && this.isLost(await map.pageId(level, index))) add(index * span, 1);
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      return add(index * span, span);
    }
    if (page === 'zero') return;
    for (let entry = 0; entry < page.byteLength / 32; entry++) {
      const id = page.subarray(entry * 32, entry * 32 + 32);
      if (isZeroId(id)) continue;
      const number = index * map.fanout + entry;
      if (level > 1) await this.#walk(map, level - 1, number, add);
      else if (this.isLost(id)) add(number, 1);
    }
  }
}

/** Adds the chunks of a pack that are damaged there. Returns why they cannot be told apart, if so. */
function addLost(lost: IdTable, chunks: DatastoreChunks, damaged: DamagedPack): string | undefined {
  const { packId, isWhole, frames, chunks: single } = damaged;
  const reason = `pack ${packId} is damaged`;
  const container = chunks.pack(packId);
  if (container === undefined || isWhole) return reason;
  try {
    for (let page = 0; page < container.chunkPageCount; page++) {
      const entries = container.chunkPage(page);
      const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
      for (let at = 0; at < entries.byteLength; at += TABLE_CHUNK_BYTES) {
        const id = entries.subarray(at, at + 32);
        if (!frames.has(view.getUint32(at + FRAME_OFFSET, true)) && !(single.size > 0 && single.has(toHex(id))))
          continue;
        if (chunks.isElsewhere(id, packId)) continue;
        lost.add(wordsOf(id), 0);
        if (lost.count > MOST_LOST) return reason;
      }
    }
    return undefined;
  } catch (error) {
    if (error instanceof VmarError) return reason;
    throw error;
  }
}

/** What of a disk of a backup is known to be damaged, as ranges of whole clusters, in order. */
export async function lostRanges(
  chunks: DatastoreChunks,
  manifest: Manifest,
  disk: string,
  packs: readonly PackId[],
): Promise<LostRange[]> {
  const before = manifest.disks.find(({ name }) => name === disk);
  const damage = ParentDamage.of(chunks, chunks.damage, packs);
  if (before === undefined || damage.isNone) return [];
  const { mapRoot: root, sizeBytes, clusterSizeBytes } = before;
  const map = new MapReader(new ChunkReader(chunks), { root, sizeBytes, clusterSizeBytes, fanout: manifest.mapFanout });
  return await damage.rangesIn(map, clusterSizeBytes, sizeBytes);
}
