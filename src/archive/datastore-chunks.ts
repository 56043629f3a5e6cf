// SPDX-License-Identifier: MIT
// The chunks of a datastore: the index says where one should be, the packs' own tables where it is.

import { fromHex } from '../base/bytes.js';
import { BugError, VmarError } from '../base/errors.js';
import type { HashName } from '../../formats/vmar/hash.js';
import type { ChunkIndex } from '../store/chunk-index.js';
import type { Datastore } from '../store/datastore.js';
import type { PackId } from '../store/layout.js';
import { PackSet } from '../store/pack-set.js';
import type { ChunkPlace, ChunkSource } from './chunk-source.js';

export class DatastoreChunks implements ChunkSource {
  readonly hash: HashName;
  readonly packs: PackSet;
  readonly index: ChunkIndex;
  readonly #store: Datastore;

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

  async locateAll(id: Uint8Array): Promise<ChunkPlace[]> {
    const places: ChunkPlace[] = [];
    for (const packId of await this.#store.listPackIds()) {
      try {
        const container = this.pack(packId);
        const found = container?.find(id);
        if (container !== undefined && found !== undefined) places.push({ container, ...found });
      } catch (error) {
        // A table that cannot be read has no good copy to offer; verify is there to name it.
        if (!(error instanceof VmarError)) throw error;
      }
    }
    return places;
  }

  /** An open pack; undefined if it is gone or damaged. */
  pack(packId: PackId): ReturnType<PackSet['open']> | undefined {
    try {
      return this.packs.open(packIdBytes(packId));
    } catch (error) {
      if (error instanceof VmarError) return undefined;
      throw error;
    }
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
