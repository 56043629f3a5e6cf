// SPDX-License-Identifier: MIT
// What must be so of a datastore once a storm is over.

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Json } from '../cli/bench.js';
import { leftIn } from './commands.js';
import { CLUSTER, type Sky, type Store } from './sky.js';

/** A quiet command, which must do what it says. */
export async function quiet(sky: Sky, store: Store, ...words: string[]): Promise<Json> {
  const finished = await sky.bench.run(['--datastore', store, '--json', ...words]);
  if (finished.status !== 0) sky.find([store, ...words], `fails: ${finished.text.slice(0, 1500)}${finished.stderr}`);
  return finished.text === '' ? {} : finished.json();
}

/** What `stats` must say of these, counted from their disks. */
function counted(sky: Sky, ids: readonly string[]) {
  let [size, logical] = [0, 0];
  for (const id of ids) {
    const disk = sky.contents.get(id)!;
    size += disk.length;
    for (let at = 0; at < disk.length; at += CLUSTER) {
      const cluster = disk.subarray(at, at + CLUSTER);
      if (cluster.some((byte) => byte !== 0)) logical += cluster.length;
    }
  }
  return { backups: ids.length, size, logical };
}

export function packsOnDisk(sky: Sky, store: Store) {
  const root = sky.bench.path(store, 'packs');
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const bytes = files.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
  return { packs: files.length, bytes };
}

/** Nobody works any more: all is there that is to be there, whole, and what gc and stats say is so. */
export async function settle(sky: Sky, store: Store, isShort: boolean): Promise<void> {
  const { backups } = await quiet(sky, store, 'list');
  const ids: string[] = backups.map(({ backup }: Json) => backup);
  for (const wrong of sky.shelves[store].settle(new Set(ids))) sky.find([store], wrong);
  for (const id of sky.anchors[store]) if (!ids.includes(id)) sky.find([store], `${id} is lost, which is protected`);
  await quiet(sky, store, 'verify');
  const unseen = ids.filter((id) => !sky.contents.has(id));
  const some = ids.filter((id) => sky.contents.has(id)).sort(() => (sky.random.oneIn(2) ? 1 : -1));
  for (const id of [...unseen, ...some.slice(0, isShort ? 1 : 8)]) {
    const target = sky.path('settled');
    const { disks } = await quiet(sky, store, 'restore', id, '--disk', `d=${target}`);
    if (disks !== undefined) sky.expectBytes([store, 'restore'], id, target);
  }
  if (!isShort) await quiet(sky, store, 'gc', '--max-unused', '0%');
  const { waiting, damaged, missingChunks } = await quiet(sky, store, 'gc', '--max-unused', '0%');
  if (waiting?.packs !== 0 || damaged.length > 0 || missingChunks > 0) sky.find([store, 'gc'], 'leaves something');
  const left = leftIn(sky, store);
  if (left.length > 0) sky.find([store], `left: ${left.join(' ')}`);
  await settleStats(sky, store, ids);
}

async function settleStats(sky: Sky, store: Store, ids: readonly string[]): Promise<void> {
  const stats = await quiet(sky, store, 'stats');
  const known = ids.filter((id) => sky.contents.has(id));
  if (known.length === ids.length) expect(stats).toMatchObject(counted(sky, ids));
  expect(stats.packs).toEqual(packsOnDisk(sky, store));
  expect(stats.unused).toBe(stats.packs.bytes - stats.stored);
}
