// SPDX-License-Identifier: MIT
// What a disk of a backup holds where, by its map alone: no data is read, and a zero subtree of any size is one step.

import { DamageError } from '../base/errors.js';
import type { BlockExtent, BlockState } from '../block/device.js';
import { isZeroId, type MapPage, type MapReader } from './map-reader.js';

/** The work of one call: ways down the map, and extents given. */
const MOST_STEPS = 128;
const MOST_EXTENTS = 4096;

export interface StatusRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly clusterSizeBytes: number;
}

/**
 * Extents from the range's start on, neighbours of equal state joined; they may end before the range does. Where a page
 * of the map is damaged the state is 'data': reading it tells of the damage, and zeros are never claimed.
 */
export async function mapStatus(map: MapReader, range: StatusRange): Promise<BlockExtent[]> {
  const { offsetBytes, clusterSizeBytes } = range;
  const end = offsetBytes + range.lengthBytes;
  const extents: { offsetBytes: number; lengthBytes: number; state: BlockState }[] = [];
  let at = offsetBytes;
  for (let step = 0; at < end && step < MOST_STEPS && extents.length < MOST_EXTENTS; step++) {
    for (const run of await runsFrom(map, Math.floor(at / clusterSizeBytes))) {
      const stop = Math.min(end, run.endCluster * clusterSizeBytes);
      if (stop <= at) break;
      const last = extents.at(-1);
      if (last?.state === run.state) last.lengthBytes += stop - at;
      else extents.push({ offsetBytes: at, lengthBytes: stop - at, state: run.state });
      at = stop;
    }
  }
  return extents;
}

interface Run {
  readonly endCluster: number;
  readonly state: BlockState;
}

/** The run of zero subtrees that a cluster lies in; else the runs from it to the end of its page of level 1. */
async function runsFrom(map: MapReader, cluster: number): Promise<Run[]> {
  for (let level = map.levels; level >= 1; level--) {
    const span = map.fanout ** level;
    const index = Math.floor(cluster / span);
    const firstCluster = index * span;
    const endCluster = Math.min(map.clusters, firstCluster + span);
    const page = map.cachedPage(level, index) ?? (await readable(map, level, index));
    if (page === 'zero') return [{ endCluster, state: 'zero' }];
    if (page === 'damaged') return [{ endCluster, state: 'data' }];
    if (level === 1) return runsOfPage(page, firstCluster, cluster);
    const below = span / map.fanout;
    const first = Math.floor((cluster - firstCluster) / below);
    let entry = first;
    while (entry * 32 < page.byteLength && stateOf(page, entry) === 'zero') entry++;
    if (entry > first) return [{ endCluster: Math.min(endCluster, firstCluster + entry * below), state: 'zero' }];
  }
  return [];
}

async function readable(map: MapReader, level: number, index: number): Promise<MapPage | 'damaged'> {
  try {
    return await map.page(level, index);
  } catch (error) {
    if (error instanceof DamageError) return 'damaged';
    throw error;
  }
}

function runsOfPage(ids: Uint8Array, firstCluster: number, cluster: number): Run[] {
  const runs: Run[] = [];
  const entries = ids.byteLength / 32;
  for (let entry = cluster - firstCluster; entry < entries; ) {
    const state = stateOf(ids, entry);
    do entry++;
    while (entry < entries && stateOf(ids, entry) === state);
    runs.push({ endCluster: firstCluster + entry, state });
  }
  return runs;
}

function stateOf(ids: Uint8Array, entry: number): BlockState {
  return isZeroId(ids.subarray(entry * 32, entry * 32 + 32)) ? 'zero' : 'data';
}
