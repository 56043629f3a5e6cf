// SPDX-License-Identifier: MIT
// The chunks of one self-contained archive: its own table is the index.

import type { HashName } from '../../formats/vmar/hash.js';
import type { ContainerReader } from '../store/container-reader.js';
import type { ChunkPlace, ChunkSource } from './chunk-source.js';

export class ArchiveChunks implements ChunkSource {
  readonly hash: HashName;
  readonly container: ContainerReader;

  constructor(container: ContainerReader) {
    this.container = container;
    this.hash = container.header.hash;
  }

  /** @throws DamageError if the page of the table that would name it is damaged. */
  locate(id: Uint8Array): ChunkPlace | undefined {
    const found = this.container.find(id);
    return found === undefined ? undefined : { container: this.container, ...found };
  }

  async locateAll(id: Uint8Array): Promise<ChunkPlace[]> {
    const place = this.locate(id);
    return place === undefined ? [] : [place];
  }

  async close(): Promise<void> {
    this.container.close();
  }
}
