// SPDX-License-Identifier: MIT
// Counts what backups hold, by their maps. A guest's page that was met in an earlier backup of it is not read again, so
// the cost goes with pages that differ, whatever the number of backups.

import { setImmediate as letOthersRun } from 'node:timers/promises';
import { clusterCount, mapLevels } from '../../../formats/vmar/map.js';
import { FRAMES_PER_PAGE, TABLE_CHUNK_BYTES, TABLE_FRAME_BYTES } from '../../../formats/vmar/trailer.js';
import { VmarError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { isZeroAt, wordsOf } from '../../store/gc/id-table.js';
import type { StoredManifest } from '../../store/manifests.js';
import type { GcPack } from '../gc/gc-packs.js';
import { ChunkLedger, type ChunkNumber } from './chunk-ledger.js';
import type { OpenMaps } from './open-maps.js';

/** Pages read before signals and timers get their turn: some milliseconds' worth. */
const PAGES_AT_ONCE = 256;
const ID_WORDS = 8;
const ENTRY_WORDS = TABLE_CHUNK_BYTES / 4;
const FRAME_WORDS = TABLE_FRAME_BYTES / 4;

/** What a walk is for. */
interface Walk {
  /** Places in time and in the list of guests, from 1. */
  readonly backup: number;
  readonly guest: number;
  readonly clusterSizeBytes: number;
  readonly sums: Needs;
}

/** What a guest's backups need, each chunk once. */
export interface Needs {
  uniqueBytes: number;
  storedBytes: number;
}

export interface LostMap {
  readonly disk: string;
  readonly error: VmarError;
}

export class Census {
  readonly data: ChunkLedger;
  readonly pages: ChunkLedger;
  /** By the number of a page: bytes below it that are not zero. */
  #below: Float64Array;
  /** Chunks that backups need and no pack has. */
  missingChunks = 0;
  readonly #maps: OpenMaps;
  readonly #signal: AbortSignal | undefined;
  #read = 0;

  constructor(maps: OpenMaps, signal?: AbortSignal) {
    const { list } = maps.packs;
    const most = (skip: GcPack['content']): number =>
      list.reduce((sum, { content, chunkCount }) => (content === skip ? sum : sum + chunkCount), 0);
    this.data = new ChunkLedger(most('maps'));
    this.pages = new ChunkLedger(most('data'));
    this.#below = new Float64Array(most('data') + 1);
    this.#maps = maps;
    this.#signal = signal;
  }

  /** Enters what the packs hold. `onPack` is told of each. */
  async takeStock(onPack: (pack: GcPack) => void): Promise<void> {
    const { packs } = this.#maps;
    for (const pack of packs.list) {
      try {
        this.#takePack(pack, packs.reader(pack));
      } catch (error) {
        if (!(error instanceof VmarError)) throw error;
        packs.setDamaged(pack, error);
      }
      onPack(pack);
      await this.#turn();
    }
  }

  #takePack(pack: GcPack, reader: ContainerReader): void {
    // A frame that is compressed to a half makes each chunk in it half as large.
    const shares = new Float64Array(pack.frameCount);
    for (let page = 0; page < reader.framePageCount; page++) {
      const words = wordsOf(reader.framePage(page));
      for (let inPage = 0; (inPage + 1) * FRAME_WORDS <= words.length; inPage++) {
        const at = inPage * FRAME_WORDS;
        shares[page * FRAMES_PER_PAGE + inPage] = words[at + 2]! / Math.max(1, words[at + 3]!);
      }
    }
    for (let page = 0; page < reader.chunkPageCount; page++) {
      const words = wordsOf(reader.chunkPage(page));
      for (let at = 0; at < words.length; at += ENTRY_WORDS) {
        const [frame, lengthBytes, kind] = [words[at + 8]!, words[at + 10]!, words[at + 11]!];
        const ledger = kind === 0 ? this.data : this.pages;
        ledger.add(words, at, lengthBytes, lengthBytes * (shares[frame] ?? 1));
      }
    }
  }

  /**
   * Counts a backup. A guest's backups come together, in the order of time; guests from 1 in any order. Gives the bytes of
   * its disks that are not zero, and the disks whose maps could not be read whole.
   */
  async addBackup(
    { manifest }: StoredManifest,
    place: { readonly backup: number; readonly guest: number; readonly sums: Needs },
  ): Promise<{ readonly logicalBytes: number; readonly lost: readonly LostMap[] }> {
    let logicalBytes = 0;
    const lost: LostMap[] = [];
    for (const { mapRoot, sizeBytes, clusterSizeBytes, name } of manifest.disks) {
      const levels = mapLevels(clusterCount(sizeBytes, clusterSizeBytes), manifest.mapFanout);
      const root = wordsOf(mapRoot);
      if (levels === 0 || isZeroAt(root, 0)) continue;
      const walk = { ...place, clusterSizeBytes };
      const onLost = (error: VmarError): void => void lost.push({ disk: name, error });
      logicalBytes += await this.#page(walk, root, 0, mapRoot, levels, onLost);
    }
    return { logicalBytes, lost };
  }

  /** The bytes below a page that are not zero. */
  async #page(
    walk: Walk,
    words: Uint32Array,
    at: number,
    id: Uint8Array,
    level: number,
    onLost: (error: VmarError) => void,
  ): Promise<number> {
    const number = this.#need(walk, this.pages, words, at, 0);
    if (number < 0) return this.#below[-number]!;
    if (this.#read++ % PAGES_AT_ONCE === 0) await this.#turn();
    let page: Uint8Array;
    try {
      page = this.#maps.pages.read(id, level);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      onLost(error);
      return 0;
    }
    const children = wordsOf(page);
    let sum = 0;
    for (let child = 0; child < children.length; child += ID_WORDS) {
      if (isZeroAt(children, child)) continue;
      if (level > 1) {
        const childId = page.subarray(child * 4, child * 4 + 32);
        sum += await this.#page(walk, children, child, childId, level - 1, onLost);
      } else {
        const chunk = this.#need(walk, this.data, children, child, walk.clusterSizeBytes);
        sum += this.data.rawBytes(Math.abs(chunk));
      }
    }
    this.#setBelow(number, sum);
    return sum;
  }

  /** The chunk's number, negative if the guest was known to need it. */
  #need(walk: Walk, ledger: ChunkLedger, words: Uint32Array, at: number, rawBytes: number): ChunkNumber {
    let chunk = ledger.find(words, at);
    if (chunk === undefined) {
      chunk = ledger.add(words, at, rawBytes, 0)!;
      this.missingChunks++;
    }
    if (!ledger.need(chunk, walk.backup, walk.guest)) return -chunk;
    walk.sums.uniqueBytes += ledger.rawBytes(chunk);
    walk.sums.storedBytes += ledger.storedBytes(chunk);
    return chunk;
  }

  #setBelow(page: ChunkNumber, bytes: number): void {
    if (page >= this.#below.length) {
      const larger = new Float64Array(Math.max(page + 1, this.#below.length * 2));
      larger.set(this.#below);
      this.#below = larger;
    }
    this.#below[page] = bytes;
  }

  async #turn(): Promise<void> {
    await letOthersRun();
    this.#signal?.throwIfAborted();
  }
}
