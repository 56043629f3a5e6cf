// SPDX-License-Identifier: MIT
// The chunks of one self-contained archive: its own table is the index.

import type { HashName } from '../../formats/vmar/hash.js';
import { VmarError } from '../base/errors.js';
import type { ContainerReader } from '../store/container-reader.js';
import type { ChunkPlace, ChunkPlaces, ChunkSource } from './chunk-source.js';

export class ArchiveChunks implements ChunkSource {
  readonly hash: HashName;
  readonly container: ContainerReader;

  constructor(container: ContainerReader) {
    this.container = container;
    this.hash = container.header.hash;
  }

  locate(id: Uint8Array): ChunkPlace | undefined {
    const found = this.container.find(id);
    return found === undefined ? undefined : { container: this.container, ...found };
  }

  async locateAll(id: Uint8Array): Promise<ChunkPlaces> {
    try {
      const place = this.locate(id);
      return { places: place === undefined ? [] : [place], passedOver: [] };
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      return { places: [], passedOver: [error] };
    }
  }

  async close(): Promise<void> {
    this.container.close();
  }
}
