// SPDX-License-Identifier: MIT
// The chunks of one self-contained archive: its own table is the index.

import type { HashName } from '../../formats/vmar/hash.js';
import { bytesEqual } from '../base/bytes.js';
import { DamageError, FailedError, VmarError } from '../base/errors.js';
import { ContainerReader } from '../store/container-reader.js';
import type { ChunkPlace, ChunkPlaces, SearchedSource } from './chunk-source.js';

export class ArchiveChunks implements SearchedSource {
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

  async *containers(): AsyncGenerator<ContainerReader> {
    yield this.container;
  }

  async checkReachable(): Promise<void> {
    const { path } = this.container;
    let found: ContainerReader;
    try {
      found = ContainerReader.open(path);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // It is there and damaged, unless it cannot even be opened or begun to be read.
      if (error instanceof DamageError && error.code !== 'container-unreadable') return;
      throw unreachable(path, error.message, error);
    }
    found.close();
    if (bytesEqual(found.header.containerId, this.container.header.containerId)) return;
    throw unreachable(path, 'another archive lies in its place');
  }

  openAgain(): void {
    this.container.openAgain();
  }

  async close(): Promise<void> {
    this.container.close();
  }
}

function unreachable(path: string, why: string, cause?: unknown): FailedError {
  return new FailedError('store-unreachable', `the archive cannot be reached: ${why}`, {
    object: path,
    advice: 'Check that its file system is mounted; reading goes on when it is back.',
    cause,
  });
}
