// SPDX-License-Identifier: MIT
// Gives every live chunk a home: one pack that is to keep it. What a pack has beside that is unused.
//
// Of several copies the fullest pack keeps the one that counts; a condemned pack only what no other has. A copy that does
// not count is not gone: before its pack goes, the one that counts is read (copies.ts).

import { setImmediate as letOthersRun } from 'node:timers/promises';
import { CHUNK_ENTRY_BYTES, EXTENT_HEADER_BYTES, FRAME_ENTRY_BYTES } from '../../../formats/vmar/extent.js';
import { FRAMES_PER_PAGE, TABLE_CHUNK_BYTES, TABLE_FRAME_BYTES } from '../../../formats/vmar/trailer.js';
import { DamageError, VmarError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { manifestKey } from '../../store/gc/fossil-record.js';
import { wordsOf } from '../../store/gc/id-table.js';
import { claimOfDamaged } from './claim-damaged.js';
import type { GcPack, GcPacks } from './gc-packs.js';
import type { Marks } from './mark.js';

const ENTRY_WORDS = TABLE_CHUNK_BYTES / 4;
/** Of an entry of a chunk table. */
const FRAME_WORD = 8;
const LENGTH_WORD = 10;
const ENVELOPE_CONTENT = 3;
const ENVELOPE_HEAD_BYTES = EXTENT_HEADER_BYTES + CHUNK_ENTRY_BYTES + FRAME_ENTRY_BYTES;

export class Homes {
  readonly #packs: GcPacks;
  readonly #marks: Marks;
  /** For copies of manifests, by `manifestKey`: the number of the pack that keeps one. */
  readonly #manifests = new Map<string, number>();

  constructor(packs: GcPacks, marks: Marks) {
    this.#packs = packs;
    this.#marks = marks;
  }

  /** Gives homes to all that is marked. `onPack` is told of each pack, twice. */
  async assign(onPack: (pack: GcPack) => void, signal: AbortSignal | undefined): Promise<void> {
    const fullness = new Map<GcPack, number>();
    for (const pack of this.#packs.list) {
      fullness.set(pack, this.#careful(pack, (reader) => this.#fullnessOf(pack, reader)) ?? 0);
      await this.#turn(pack, onPack, signal);
    }
    const order = this.#packs.list.filter((pack) => !this.#packs.isDamaged(pack));
    const rank = (pack: GcPack): number => {
      if (pack.isCondemned) return -2;
      return pack.damage === undefined ? fullness.get(pack)! : -1;
    };
    // Of packs that are full alike the larger: where a join was cut off, it is finished.
    order.sort((a, b) => rank(b) - rank(a) || b.chunkCount - a.chunkCount);
    for (const pack of order) {
      this.#careful(pack, (reader) => {
        if (pack.damage === undefined) this.#claim(pack, reader);
        else claimOfDamaged(this, this.#packs, this.#marks, pack, 'sound');
      });
      await this.#turn(pack, onPack, signal);
    }
    // What no other pack has, if it can be had there all the same.
    for (const pack of order) {
      if (pack.damage === undefined) continue;
      this.#careful(pack, () => claimOfDamaged(this, this.#packs, this.#marks, pack, 'suspect'));
      if (pack.lostChunks > 0) this.#packs.setDamaged(pack, lost(pack));
    }
  }

  async #turn(pack: GcPack, onPack: (pack: GcPack) => void, signal: AbortSignal | undefined): Promise<void> {
    onPack(pack);
    await letOthersRun();
    signal?.throwIfAborted();
  }

  /** A pack whose tables are damaged is left alone, and keeps what was found in it so far. */
  #careful<Result>(pack: GcPack, look: (reader: ContainerReader) => Result): Result | undefined {
    try {
      return look(this.#packs.reader(pack));
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      this.#packs.setDamaged(pack, error);
      return undefined;
    }
  }

  /** Where a table is damaged, the extents tell what is in the pack. */
  #fullnessOf(pack: GcPack, reader: ContainerReader): number {
    if (pack.damage !== undefined) return 0;
    try {
      return this.#fullness(pack, reader);
    } catch (error) {
      if (!(error instanceof DamageError) || pack.isBroken) throw error;
      pack.damage = 'tables';
      this.#packs.contents(pack);
      return 0;
    }
  }

  /** Which part of its content anybody needs, other copies or not. */
  #fullness(pack: GcPack, reader: ContainerReader): number {
    const { live } = this.#marks;
    let liveBytes = 0;
    for (const words of chunkPages(reader)) {
      for (let at = 0; at < words.length; at += ENTRY_WORDS) {
        if (live.find(words, at) >= 0) liveBytes += words[at + LENGTH_WORD]!;
      }
    }
    return reader.footer.rawBytes === 0 ? pack.frameCount / 1e6 : liveBytes / reader.footer.rawBytes;
  }

  #claim(pack: GcPack, reader: ContainerReader): void {
    const { live } = this.#marks;
    const liveOf = new Float64Array(pack.frameCount);
    const chunksOf = new Uint32Array(pack.frameCount);
    for (const words of chunkPages(reader)) {
      for (let at = 0; at < words.length; at += ENTRY_WORDS) {
        const frame = words[at + FRAME_WORD]!;
        chunksOf[frame]!++;
        const slot = live.find(words, at);
        if (slot < 0 || live.value(slot) !== 0) continue;
        live.setValue(slot, pack.number);
        pack.liveChunks++;
        liveOf[frame]! += words[at + LENGTH_WORD]!;
      }
    }
    for (let page = 0; page < reader.framePageCount; page++) {
      const words = wordsOf(reader.framePage(page));
      for (let inPage = 0; inPage < words.length / (TABLE_FRAME_BYTES / 4); inPage++) {
        const frame = page * FRAMES_PER_PAGE + inPage;
        const at = inPage * (TABLE_FRAME_BYTES / 4);
        const stored = words[at + 2]!;
        pack.storedBytes += stored;
        if (chunksOf[frame] === 0) this.#claimManifest(pack, reader, frame, stored);
        else pack.liveBytes += (stored * liveOf[frame]!) / words[at + 3]!;
      }
    }
  }

  #claimManifest(pack: GcPack, reader: ContainerReader, frame: number, storedBytes: number): void {
    const key = manifestCopyAt(reader, frame);
    if (key !== undefined) this.claimCopy(key, pack, storedBytes);
  }

  /** Gives the copy of a manifest a home, unless it is gone or has one. */
  claimCopy(key: string, pack: GcPack, storedBytes: number): void {
    if (!this.#marks.manifests.has(key) || this.#manifests.has(key)) return;
    this.#manifests.set(key, pack.number);
    pack.manifests++;
    pack.liveBytes += storedBytes;
  }

  /** The pack that keeps the copy of a manifest; undefined if the manifest is gone, or has no copy. */
  ofManifest(key: string): number | undefined {
    return this.#manifests.get(key);
  }

  moveManifest(key: string, to: GcPack): void {
    this.#manifests.set(key, to.number);
  }
}

function lost({ damage, lostChunks }: GcPack): DamageError {
  const problem = typeof damage === 'object' ? damage.problem : 'a table does not match its seal';
  return new DamageError('chunks-lost', `${problem}; ${lostChunks} chunks that backups need are nowhere else`);
}

/** The entries of a pack's chunk table, as words, page by page. */
export function* chunkPages(reader: ContainerReader): Generator<Uint32Array> {
  for (let page = 0; page < reader.chunkPageCount; page++) yield wordsOf(reader.chunkPage(page));
}

/** Which manifest a frame is the copy of, for a frame that no chunk of the table lies in; undefined for another. */
export function manifestCopyAt(reader: ContainerReader, frame: number): string | undefined {
  const { offsetBytes } = reader.frame(frame);
  const extent = reader.extentHead(offsetBytes - ENVELOPE_HEAD_BYTES);
  return extent.content === ENVELOPE_CONTENT ? manifestKey(extent.chunks[0]!.id) : undefined;
}
