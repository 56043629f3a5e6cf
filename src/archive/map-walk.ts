// SPDX-License-Identifier: MIT
// Walks the map of a disk from front to back, in time proportional to what is not zero.

import { VmarError } from '../base/errors.js';
import type { MapReader } from './map-reader.js';

export type MapStep =
  /** A page of level 1: the ids of the clusters from `firstCluster` on, end to end. */
  | { readonly kind: 'page'; readonly firstCluster: number; readonly count: number; readonly ids: Uint8Array }
  /** Clusters that are all zero. */
  | { readonly kind: 'zero'; readonly firstCluster: number; readonly count: number }
  /** Clusters that are unknown, since a page above them is damaged or gone. */
  | { readonly kind: 'lost'; readonly firstCluster: number; readonly count: number; readonly error: VmarError };

export interface WalkOptions {
  /**
   * Looks at a page before it is read; false skips all below it. For walks that have seen the same page before.
   */
  readonly enter?: (id: Uint8Array, level: number) => boolean;
}

/** Yields steps that cover the disk in order, except for what `enter` skipped. */
export async function* walkMap(map: MapReader, options: WalkOptions = {}): AsyncGenerator<MapStep> {
  if (map.levels > 0) yield* walkPage(map, map.levels, 0, options);
}

async function* walkPage(map: MapReader, level: number, index: number, options: WalkOptions): AsyncGenerator<MapStep> {
  const span = map.fanout ** level;
  const firstCluster = index * span;
  const count = Math.min(span, map.clusters - firstCluster);
  let page: Awaited<ReturnType<MapReader['page']>>;
  try {
    if (options.enter !== undefined && !options.enter(await map.pageId(level, index), level)) return;
    page = await map.page(level, index);
  } catch (error) {
    if (!(error instanceof VmarError)) throw error;
    yield { kind: 'lost', firstCluster, count, error };
    return;
  }
  if (page === 'zero') yield { kind: 'zero', firstCluster, count };
  else if (level === 1) yield { kind: 'page', firstCluster, count, ids: page };
  else {
    const children = page.byteLength / 32;
    for (let child = 0; child < children; child++) yield* walkPage(map, level - 1, index * map.fanout + child, options);
  }
}
