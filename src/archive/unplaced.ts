// SPDX-License-Identifier: MIT
// What of a disk has no known place, from somewhere on: after one chunk of a lost pack others follow.

import { pageEntries } from '../../formats/vmar/map.js';
import { TABLE_CHUNK_BYTES } from '../../formats/vmar/table.js';
import { VmarError } from '../base/errors.js';
import type { ContainerReader } from '../store/container-reader.js';
import type { ChunkReader } from './chunk-reader.js';
import { isZeroId, type MapReader } from './map-reader.js';

/** Looks at a map as far as its pages can be had without a search. */
export interface UnplacedOptions {
  readonly map: Pick<MapReader, 'levels' | 'fanout' | 'clusters' | 'root'>;
  readonly chunks: Pick<ChunkReader, 'hasPlace' | 'likely'>;
  readonly firstCluster: number;
  /** 0: data as well; 1: pages of the map alone. */
  readonly leastLevel: 0 | 1;
}

/** Ids without a place, in the order of the disk; undefined after each page that was read. */
export function* unplaced(options: UnplacedOptions): Generator<Uint8Array | undefined> {
  const { map } = options;
  if (map.levels > 0) yield* below(options, map.levels, 0, map.root);
}

function* below(
  options: UnplacedOptions,
  level: number,
  index: number,
  id: Uint8Array,
): Generator<Uint8Array | undefined> {
  const { map, chunks, firstCluster, leastLevel } = options;
  if (isZeroId(id) || (index + 1) * map.fanout ** level <= firstCluster) return;
  if (level <= leastLevel) {
    if (!chunks.hasPlace(id)) yield id;
    return;
  }
  const page = chunks.likely(id, level);
  yield page === undefined ? id : undefined;
  // One of another length than it must have is no page of this map.
  if (page?.byteLength !== pageEntries(level, index, map.clusters, map.fanout) * 32) return;
  for (let at = 0; at < page.byteLength; at += 32) {
    yield* below(options, level - 1, index * map.fanout + at / 32, page.subarray(at, at + 32));
  }
}

/** All ids that the table of a container has: where one of its frames is damaged, others are likely to be. */
export function* idsOf(container: ContainerReader): Generator<Uint8Array> {
  for (let page = 0; page < container.chunkPageCount; page++) {
    const entries = entriesOf(container, page);
    for (let at = 0; at < entries.byteLength; at += TABLE_CHUNK_BYTES) yield entries.subarray(at, at + 32);
  }
}

const NONE = new Uint8Array(0);

function entriesOf(container: ContainerReader, page: number): Uint8Array {
  try {
    return container.chunkPage(page);
  } catch (error) {
    if (error instanceof VmarError) return NONE;
    throw error;
  }
}
