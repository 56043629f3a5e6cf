// SPDX-License-Identifier: MIT
// Where chunks are found: in the packs of a datastore, or in one archive. Readers of backups are written against this.

import type { HashName } from '../../formats/vmar/hash.js';
import type { VmarError } from '../base/errors.js';
import type { ContainerReader } from '../store/container-reader.js';

/** Where a chunk lies. Not trusted by anyone: whoever reads it checks the chunk's id. */
export interface ChunkPlace {
  readonly container: ContainerReader;
  /** In the container's frame table. */
  readonly frame: number;
  /** In the frame's raw bytes. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface ChunkPlaces {
  readonly places: readonly ChunkPlace[];
  /** Why containers that may hold the chunk could not be looked through: damage, or FailedError for a newer one. */
  readonly passedOver: readonly VmarError[];
}

/**
 * Chunks that are likely to be looked for next, gone through when there is a search for another: then they are looked for
 * together. Bounded by whoever goes through them; undefined where something was done and no such chunk found.
 */
export type LikelyNext = () => Iterable<Uint8Array | undefined>;

export interface ChunkSource {
  readonly hash: HashName;
  /**
   * The likely place of a chunk, or undefined if none is known.
   * @throws DamageError if what would tell it is damaged.
   */
  locate(id: Uint8Array): ChunkPlace | undefined;
  /**
   * Every place of a chunk by the containers' own tables, past the index: slow, for when a place turned out wrong; what
   * others want at the same time is looked for in the same pass, and what was looked for is remembered for a while.
   * @throws InterruptedError once `endSearch` was called
   */
  locateAll(id: Uint8Array, next?: LikelyNext): Promise<ChunkPlaces>;
  /** Has `locateAll` look anew for what it remembers, unless that was looked for after a doubt already. */
  doubt?(): void;
  /** Ends a search that is under way, and lets none begin: what is read is wanted no more. */
  endSearch?(): void;
  /** Says that a frame was found damaged where its container's own table has it. */
  distrust?(place: ChunkPlace): void;
  /**
   * Resolves if the datastore or archive is there as a whole; what went wrong is then the fault of its parts.
   * @throws FailedError 'store-unreachable' if it is away: unmounted, moved, its server gone.
   */
  checkReachable(): Promise<void>;
  /** Opens files anew from here on: descriptors of a mount that went away stay dead when it is back. */
  openAgain(): void;
  close(): Promise<void>;
}

/** One whose containers can be gone through, for who looks for many chunks at once. */
export interface SearchedSource extends ChunkSource {
  /** Every container, each valid until the next is asked for; an error stands for one that cannot be opened. */
  containers(): AsyncIterable<ContainerReader | VmarError>;
  /** Says where a chunk was found that `locate` did not give a good place of. */
  learn?(id: Uint8Array, places: readonly ChunkPlace[]): Promise<void>;
}
