// SPDX-License-Identifier: MIT
// The packs of a datastore as gc sees them: one small object a pack, whatever it holds.

import { statSync } from 'node:fs';
import { NotFoundError, VmarError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import type { Datastore } from '../../store/datastore.js';
import { type PackId, packPath } from '../../store/layout.js';
import { PackSet } from '../../store/pack-set.js';
import { packIdBytes } from '../pack-id-bytes.js';

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

  constructor(store: Datastore) {
    this.#store = store;
    this.#open = new PackSet(store.root);
  }

  /** Takes in packs that are not known yet. One that cannot be read is remembered as such. */
  add(ids: Iterable<PackId>, condemned: ReadonlySet<PackId>, isCandidate: boolean): void {
    for (const id of ids) {
      if (this.#byId.has(id) || this.unreadable.has(id)) continue;
      try {
        this.#add(id, condemned.has(id), isCandidate);
      } catch (error) {
        if (!(error instanceof NotFoundError)) this.#refuse(id, error);
      }
    }
  }

  #add(id: PackId, isCondemned: boolean, isCandidate: boolean): void {
    const { header, footer, fileBytes, path } = this.#open.open(packIdBytes(id));
    const pack: GcPack = {
      number: this.list.length + 1,
      id,
      fileBytes,
      madeMillis: statSync(path).mtimeMs,
      createdSeconds: header.createdSeconds,
      content: header.content,
      chunkCount: footer.chunkCount,
      frameCount: footer.frameCount,
      isCondemned,
      isCandidate: isCandidate && header.use === 'pack',
      ...{ storedBytes: 0, liveBytes: 0, liveChunks: 0, manifests: 0 },
    };
    this.list.push(pack);
    this.#byId.set(id, pack);
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
    return this.#open.open(packIdBytes(pack.id));
  }

  /** Lets go of a pack's file. */
  close(pack: GcPack): void {
    this.#open.close(packIdBytes(pack.id));
  }

  closeAll(): void {
    this.#open.closeAll();
  }
}
