// SPDX-License-Identifier: MIT
// The chunks of a datastore: the index says where one should be, the packs' own tables where it is.

import type { HashName } from '../../formats/vmar/hash.js';
import { fromHex } from '../base/bytes.js';
import { BugError, DamageError, NotFoundError, VmarError } from '../base/errors.js';
import type { ChunkIndex } from '../store/chunk-index.js';
import type { ContainerReader } from '../store/container-reader.js';
import type { Datastore } from '../store/datastore.js';
import type { PackId } from '../store/layout.js';
import { PackSet } from '../store/pack-set.js';
import { readPackTable } from '../store/stored-packs.js';
import type { ChunkPlace, ChunkPlaces, ChunkSource } from './chunk-source.js';

export class DatastoreChunks implements ChunkSource {
  readonly hash: HashName;
  readonly packs: PackSet;
  readonly index: ChunkIndex;
  readonly #store: Datastore;
  /** Packs whose entries in the index were wrong, and were put right. */
  readonly #righted = new Set<PackId>();
  /** Frames that were found damaged, as `FRAME@PATH`. */
  readonly #distrusted = new Set<string>();

  private constructor(store: Datastore, index: ChunkIndex) {
    this.#store = store;
    this.hash = store.superblock.hash;
    this.packs = new PackSet(store.root);
    this.index = index;
  }

  /** Opens the index, brought up to date with the packs that are there. */
  static async open(store: Datastore): Promise<DatastoreChunks> {
    return new DatastoreChunks(store, await store.index());
  }

  locate(id: Uint8Array): ChunkPlace | undefined {
    const hit = this.index.get(id);
    if (hit === undefined) return undefined;
    const { packId, frame, offsetBytes, lengthBytes } = hit;
    const container = this.pack(packId);
    return container === undefined ? undefined : { container, frame, offsetBytes, lengthBytes };
  }

  async locateAll(id: Uint8Array): Promise<ChunkPlaces> {
    const places: ChunkPlace[] = [];
    const passedOver: VmarError[] = [];
    let told = false;
    let first: PackId | undefined;
    for (const packId of (await this.#store.listPackIds()).sort()) {
      try {
        const container = this.packs.open(packIdBytes(packId));
        const found = container.find(id);
        if (found === undefined) continue;
        places.push({ container, ...found });
        told ||= this.#tells(id, packId, found);
        first ??= packId;
      } catch (error) {
        if (!(error instanceof VmarError)) throw error;
        if (!(error instanceof NotFoundError)) passedOver.push(error);
      }
    }
    if (first !== undefined && !told) await this.#putRight(first);
    return { places, passedOver };
  }

  /** Whether the index has the chunk at one of its places. */
  #tells(id: Uint8Array, packId: PackId, place: Omit<ChunkPlace, 'container'>): boolean {
    const hit = this.index.get(id);
    if (hit?.packId !== packId || hit.frame !== place.frame) return false;
    return hit.offsetBytes === place.offsetBytes && hit.lengthBytes === place.lengthBytes;
  }

  /** Takes a pack into the index anew, whose chunks it did not find; once, so that a pack costs one slow search. */
  async #putRight(packId: PackId): Promise<void> {
    if (this.#righted.has(packId)) return;
    this.#righted.add(packId);
    const { log, root } = this.#store;
    try {
      const { footerSeal, pages } = await readPackTable(root, packId);
      const kept: Uint8Array[] = [];
      for await (const page of pages) kept.push(page);
      await this.index.removePack(packId);
      await this.index.addPack(packId, footerSeal, kept);
      log.info(`the chunk index was wrong about pack ${packId}, and is put right`);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // A damaged pack is not the index's fault; verify tells of it.
      if (!(error instanceof DamageError))
        log.warn(`${error.message}; it was wrong about pack ${packId}, and stays so`);
    }
  }

  distrust({ container, frame }: ChunkPlace): void {
    this.#distrusted.add(`${frame}@${container.path}`);
  }

  /**
   * What is behind a hit of the index, by the pack's own table: 'here' if nothing is known against it, 'stale' if the
   * index is wrong, 'damaged' if the pack or the frame is.
   */
  confirm(packId: PackId, id: Uint8Array): 'here' | 'stale' | 'damaged' {
    try {
      const container = this.pack(packId);
      if (container === undefined) return 'damaged';
      const entry = container.find(id);
      if (entry === undefined) return 'stale';
      const isDistrusted = this.#distrusted.size > 0 && this.#distrusted.has(`${entry.frame}@${container.path}`);
      return isDistrusted ? 'damaged' : 'here';
    } catch (error) {
      if (error instanceof VmarError) return 'damaged';
      throw error;
    }
  }

  /** An open pack; undefined if it is gone, damaged or newer. */
  pack(packId: PackId): ContainerReader | undefined {
    try {
      return this.packs.open(packIdBytes(packId));
    } catch (error) {
      if (error instanceof VmarError) return undefined;
      throw error;
    }
  }

  async checkReachable(): Promise<void> {
    await this.#store.checkReachable();
  }

  openAgain(): void {
    this.packs.closeAll();
  }

  /** Closes the packs; the index is the datastore's. */
  async close(): Promise<void> {
    this.packs.closeAll();
  }
}

/** The 16 bytes of a pack's id. */
export function packIdBytes(packId: PackId): Uint8Array {
  const bytes = fromHex(packId, 16);
  if (bytes === undefined) throw new BugError(`not the id of a pack: ${packId}`);
  return bytes;
}
