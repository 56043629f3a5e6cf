// SPDX-License-Identifier: MIT
// The packs of a datastore as gc sees them: one small object a pack, whatever it holds.

import { statSync } from 'node:fs';
import { TABLE_CHUNK_BYTES } from '../../../formats/vmar/trailer.js';
import { DamageError, NotFoundError, VmarError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { type DamagedPack, KnownDamage } from '../../store/damage-list.js';
import type { Datastore } from '../../store/datastore.js';
import { wordsOf } from '../../store/gc/id-table.js';
import { type PackId, packPath } from '../../store/layout.js';
import { PackSet } from '../../store/pack-set.js';
import { packIdBytes } from '../pack-id-bytes.js';
import { scanIds } from '../verify/scan-ids.js';
import { type ContentFrame, contentsOf, type PlacedChunk } from './pack-contents.js';

export interface GcPack {
  /** From 1: stands for the pack in tables of numbers. */
  readonly number: number;
  readonly id: PackId;
  readonly fileBytes: number;
  /** When the file was made, by the file system's clock. */
  readonly madeMillis: number;
  readonly createdSeconds: number;
  readonly content: 'data' | 'maps' | 'both';
  readonly chunkCount: number;
  readonly frameCount: number;
  readonly isCondemned: boolean;
  /** Was there before the manifests were listed: what nobody needs of it, nobody needed. */
  readonly isCandidate: boolean;
  /** It cannot be opened; nobody knows what is in it but by its extents. */
  readonly isBroken: boolean;
  /** What is known to be damaged of it. */
  damage: DamagedPack | 'tables' | undefined;
  /** Chunks that are needed, damaged here, and in no other pack. */
  lostChunks: number;
  /** Bytes of its frames, and those of them that somebody needs and no other pack is to give. */
  storedBytes: number;
  liveBytes: number;
  liveChunks: number;
  /** Copies of manifests that are there still. */
  manifests: number;
}

export interface UnreadablePack {
  readonly file: string;
  readonly problem: string;
}

export class GcPacks {
  readonly #store: Datastore;
  readonly #open: PackSet;
  /** By number less one. */
  readonly list: GcPack[] = [];
  readonly #byId = new Map<PackId, GcPack>();
  /** Never touched. */
  readonly unreadable = new Map<PackId, UnreadablePack>();
  readonly #known: KnownDamage;
  #contents: { readonly pack: GcPack; readonly frames: readonly ContentFrame[] } | undefined;

  constructor(store: Datastore, known: KnownDamage = KnownDamage.NONE) {
    this.#store = store;
    this.#known = known;
    this.#open = new PackSet(store.root);
  }

  /** Takes in packs that are not known yet. One that cannot be read is remembered as such. */
  add(ids: Iterable<PackId>, condemned: ReadonlySet<PackId>, isCandidate: boolean): void {
    for (const id of ids) {
      if (this.#byId.has(id) || this.unreadable.has(id)) continue;
      try {
        this.#add(id, condemned.has(id), isCandidate);
      } catch (error) {
        if (error instanceof NotFoundError) continue;
        this.#refuse(id, error);
        // One that is newer, or not for us to read, is not broken.
        if (error instanceof DamageError) this.#addBroken(id, condemned.has(id), isCandidate);
      }
    }
  }

  #add(id: PackId, isCondemned: boolean, isCandidate: boolean): void {
    const { header, footer, fileBytes, path } = this.#open.open(packIdBytes(id));
    this.#take({
      ...{ id, fileBytes, isCondemned, isBroken: false, damage: this.#known.packs.get(id) },
      madeMillis: statSync(path).mtimeMs,
      createdSeconds: header.createdSeconds,
      content: header.content,
      chunkCount: footer.chunkCount,
      frameCount: footer.frameCount,
      isCandidate: isCandidate && header.use === 'pack',
    });
  }

  #addBroken(id: PackId, isCondemned: boolean, isCandidate: boolean): void {
    const file = statSync(packPath(this.#store.root, id), { throwIfNoEntry: false });
    if (file === undefined) return;
    this.#take({
      ...{ id, fileBytes: file.size, madeMillis: file.mtimeMs, createdSeconds: 0, content: 'data' },
      ...{ chunkCount: 0, frameCount: 0, isCondemned, isCandidate, isBroken: true, damage: undefined },
    });
  }

  #take(facts: Omit<GcPack, 'number' | 'storedBytes' | 'liveBytes' | 'liveChunks' | 'manifests' | 'lostChunks'>): void {
    const counts = { storedBytes: 0, liveBytes: 0, liveChunks: 0, manifests: 0, lostChunks: 0 };
    const pack: GcPack = { number: this.list.length + 1, ...facts, ...counts };
    this.list.push(pack);
    this.#byId.set(facts.id, pack);
  }

  /** The entries of a pack's chunk table, as words; of a damaged pack what its extents hold, if that must be. */
  *chunkWords(pack: GcPack): Generator<Uint32Array> {
    if (pack.isBroken) {
      const { root, superblock } = this.#store;
      for (const id of scanIds(packPath(root, pack.id), packIdBytes(pack.id), superblock.hash)) {
        yield wordsOf(Buffer.concat([id, Buffer.alloc(TABLE_CHUNK_BYTES - id.byteLength)]));
      }
      return;
    }
    const reader = this.reader(pack);
    for (let page = 0; page < reader.chunkPageCount && pack.damage === undefined; page++) {
      const words = this.#pageWords(pack, reader, page);
      if (words !== undefined) yield words;
    }
    if (pack.damage === undefined) return;
    for (const { chunks, number } of this.contents(pack)) for (const chunk of chunks) yield entryWords(chunk, number);
  }

  #pageWords(pack: GcPack, reader: ContainerReader, page: number): Uint32Array | undefined {
    try {
      return wordsOf(reader.chunkPage(page));
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      pack.damage = 'tables';
      return undefined;
    }
  }

  /** What lies in a damaged pack. @throws DamageError if that cannot be told */
  contents(pack: GcPack): readonly ContentFrame[] {
    if (this.#contents?.pack !== pack) this.#contents = { pack, frames: contentsOf(this.reader(pack)) };
    return this.#contents.frames;
  }

  /** It is gone, damage and all. */
  forget(pack: GcPack): void {
    this.unreadable.delete(pack.id);
    if (this.#contents?.pack === pack) this.#contents = undefined;
  }

  #refuse(id: PackId, error: unknown): void {
    if (!(error instanceof VmarError)) throw error;
    this.unreadable.set(id, { file: packPath(this.#store.root, id), problem: error.message });
  }

  /** Says that a pack is damaged: it is left alone. */
  setDamaged(pack: GcPack, error: VmarError): void {
    this.#refuse(pack.id, error);
  }

  isDamaged(pack: GcPack): boolean {
    return this.unreadable.has(pack.id);
  }

  get(id: PackId): GcPack | undefined {
    return this.#byId.get(id);
  }

  byNumber(number: number): GcPack | undefined {
    return this.list[number - 1];
  }

  reader(pack: GcPack): ContainerReader {
    return this.#open.openNamed(pack.id);
  }

  /** Lets go of a pack's file. */
  close(pack: GcPack): void {
    this.#open.close(packIdBytes(pack.id));
  }

  closeAll(): void {
    this.#open.closeAll();
  }
}

function entryWords({ id, offsetBytes, lengthBytes, kind }: PlacedChunk, frame: number): Uint32Array {
  const words = new Uint32Array(TABLE_CHUNK_BYTES / 4);
  words.set(wordsOf(id));
  words.set([frame, offsetBytes, lengthBytes, kind], 8);
  return words;
}
