// SPDX-License-Identifier: MIT
// An archive of a few KB: two disks that share a chunk, one of them with a map of two levels.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { openArchiveVault } from '#vmar/src/archive/archive-vault.js';
import { CLUSTER, type MemoryDisk, World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { diskOf, dumpSmallFrames, filled } from './tiny-store.js';

const TAIL_BYTES = 60;

export const ARCHIVE_DISKS: readonly MemoryDisk[] = [
  {
    name: 'a',
    content: diskOf(130 * CLUSTER + TAIL_BYTES, {
      1: filled('one'),
      2: filled('two'),
      128: filled('three'),
      130: seededRandom(3).bytes(TAIL_BYTES),
    }),
  },
  { name: 'b', content: diskOf(CLUSTER, { 0: filled('two') }) },
];

/** Writes `tiny.vmar` into a directory; gives its path, and a world to restore it in. */
export async function makeTinyArchive(base: string): Promise<{ path: string; world: World }> {
  mkdirSync(base, { recursive: true });
  const world = World.at(base);
  const path = join(base, 'tiny.vmar');
  const machine = world.machine();
  try {
    const vault = await openArchiveVault(
      { kind: 'file', path, overwrite: false },
      { clusterSizeBytes: CLUSTER, hash: 'blake3', scratchParent: base },
    );
    await dumpSmallFrames(vault, machine, '100', 1_767_225_600, ARCHIVE_DISKS);
  } finally {
    await machine.close();
  }
  return { path, world };
}
