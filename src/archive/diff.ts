// SPDX-License-Identifier: MIT
// What changed between two backups of a disk: both maps are walked together, and a subtree with the same id in both is
// never entered, so the cost is that of the difference.

import { isZeroId, type MapReader } from './map-reader.js';

export interface ChangedExtent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface DiffSide {
  readonly map: MapReader;
  readonly sizeBytes: number;
}

/**
 * The ranges in which the two differ, in order, neighbours joined. Where one disk is longer, the rest of it counts as
 * changed. Both must have the same cluster size, fan-out and hash.
 * @throws DamageError if a map page of either is damaged.
 */
export async function diffDisks(a: DiffSide, b: DiffSide, clusterSizeBytes: number): Promise<ChangedExtent[]> {
  const runs: { first: number; end: number }[] = [];
  const add = (first: number, end: number): void => {
    const last = runs.at(-1);
    if (last?.end === first) last.end = end;
    else if (end > first) runs.push({ first, end });
  };
  const common = Math.min(a.map.clusters, b.map.clusters);
  if (a.sizeBytes === b.sizeBytes) await compare(a.map, b.map, a.map.levels, 0, add);
  else await compareLeaves(a.map, b.map, common, add);
  add(common, Math.max(a.map.clusters, b.map.clusters));
  const end = Math.max(a.sizeBytes, b.sizeBytes);
  return runs.map((run) => {
    const offsetBytes = run.first * clusterSizeBytes;
    return { offsetBytes, lengthBytes: Math.min(end, run.end * clusterSizeBytes) - offsetBytes };
  });
}

type AddRun = (first: number, end: number) => void;

async function compare(a: MapReader, b: MapReader, level: number, index: number, add: AddRun): Promise<void> {
  if (level < 0 || a.levels === 0) return;
  const idA = await a.pageId(level, index);
  const idB = await b.pageId(level, index);
  if (Buffer.compare(idA, idB) === 0) return;
  if (level === 0) return add(index, index + 1);
  const fanout = a.fanout;
  const children = Math.min(fanout, Math.ceil(a.clusters / fanout ** (level - 1)) - index * fanout);
  for (let child = 0; child < children; child++) await compare(a, b, level - 1, index * fanout + child, add);
}

/** For disks of unequal length, whose trees need not have equal shape: leaf pages side by side. */
async function compareLeaves(a: MapReader, b: MapReader, common: number, add: AddRun): Promise<void> {
  const fanout = a.fanout;
  for (let page = 0; page * fanout < common; page++) {
    const idA = await a.pageId(1, page);
    const idB = await b.pageId(1, page);
    if (Buffer.compare(idA, idB) === 0 && (page + 1) * fanout <= common) continue;
    if (isZeroId(idA) && isZeroId(idB)) continue;
    for (let cluster = page * fanout; cluster < Math.min(common, (page + 1) * fanout); cluster++) {
      const same = Buffer.compare(await a.pageId(0, cluster), await b.pageId(0, cluster)) === 0;
      if (!same) add(cluster, cluster + 1);
    }
  }
}
