// SPDX-License-Identifier: MIT
// Where chunks are found: in the packs of a datastore, or in one archive. Readers of backups are written against this.

import type { HashName } from '../../formats/vmar/hash.js';
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

export interface ChunkSource {
  readonly hash: HashName;
  /** The likely place of a chunk, or undefined if none is known. */
  locate(id: Uint8Array): ChunkPlace | undefined;
  /**
   * Every place of a chunk by the containers' own tables, past the index: slow, for when a place turned out wrong.
   * Containers that cannot be opened are passed over.
   */
  locateAll(id: Uint8Array): Promise<ChunkPlace[]>;
  close(): Promise<void>;
}
