// SPDX-License-Identifier: MIT
// The shape of a map (SPEC.md §3): levels and pages from the length of a disk.

import { divideUp } from '../../src/base/checked.js';

/** Stands for a cluster, a page or a whole disk of zeros. Not to be changed. */
export const ZERO_ID: Uint8Array = new Uint8Array(32);

export function clusterCount(sizeBytes: number, clusterSizeBytes: number): number {
  return divideUp(sizeBytes, clusterSizeBytes);
}

/** The lowest level of which one page covers all clusters; 0 for a disk of length 0. */
export function mapLevels(clusters: number, fanout: number): number {
  if (clusters === 0) return 0;
  let levels = 1;
  for (let covered = fanout; covered < clusters; covered *= fanout) levels++;
  return levels;
}

/** Pages of a level. */
export function pageCount(level: number, clusters: number, fanout: number): number {
  return divideUp(clusters, fanout ** level);
}

/** Entries of a page: `fanout`, or fewer in the last page of a level. */
export function pageEntries(level: number, page: number, clusters: number, fanout: number): number {
  const below = divideUp(clusters, fanout ** (level - 1));
  return Math.max(0, Math.min(fanout, below - page * fanout));
}
