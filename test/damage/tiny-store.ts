// SPDX-License-Identifier: MIT
// A datastore of a few KB with a bit of everything: two guests, two or three backups, deduplication within a disk and between
// guests, maps of two levels, several frames an extent, a frame stored raw, a label.

import { ArchiveSink } from '#vmar/src/archive/archive-sink.js';
import { openDatastoreVault } from '#vmar/src/archive/datastore-vault.js';
import type { Vault } from '#vmar/src/archive/vault.js';
import { parseBackupId } from '#vmar/src/store/backup-id.js';
import { readManifest } from '#vmar/src/store/manifests.js';
import { writeSidecar } from '#vmar/src/store/sidecars.js';
import {
  CLUSTER,
  describe as describeBackup,
  dumpDisk,
  type MemoryDisk,
  World,
  type WorldOptions,
} from '../archive/world.js';
import { seededRandom } from '../base/random.js';

export const NIGHT_1 = 'vm/100/2026-01-01T02:00:00Z';
export const NIGHT_2 = 'vm/100/2026-01-02T02:00:00Z';
export const NEIGHBOUR = 'vm/200/2026-01-01T03:00:00Z';
export const FANOUT = 16;

export interface TinyBackup {
  readonly name: string;
  readonly disks: readonly MemoryDisk[];
}

/** A cluster that compresses to some bytes. */
export function filled(word: string, lengthBytes: number = CLUSTER): Buffer {
  return Buffer.alloc(lengthBytes, word);
}

/** A disk from its clusters that are not zero. */
export function diskOf(sizeBytes: number, clusters: Readonly<Record<number, Uint8Array>>): Buffer {
  const content = Buffer.alloc(sizeBytes);
  for (const [cluster, bytes] of Object.entries(clusters)) content.set(bytes, Number(cluster) * CLUSTER);
  return content;
}

const TAIL_BYTES = 75;
/** Clusters 0 and 16 are alike; the last one is short, and the map has two levels. */
const first = {
  0: filled('one'),
  1: filled('two'),
  2: filled('three'),
  16: filled('one'),
  17: seededRandom(7).bytes(TAIL_BYTES),
};
const longDisk = 17 * CLUSTER + TAIL_BYTES;

export const TINY_BACKUPS: readonly TinyBackup[] = [
  { name: NIGHT_1, disks: [{ name: 'a', content: diskOf(longDisk, first) }] },
  { name: NEIGHBOUR, disks: [{ name: 'b', content: diskOf(2 * CLUSTER, { 0: filled('two'), 1: filled('four') }) }] },
  { name: NIGHT_2, disks: [{ name: 'a', content: diskOf(longDisk, { ...first, 1: filled('five') }) }] },
];

/** Frames of two clusters, so that small disks have several. */
export async function backUp(world: World, { name, disks }: TinyBackup): Promise<void> {
  const { guestId, timeSeconds } = parseBackupId(name)!;
  const store = await world.open();
  const machine = world.machine();
  try {
    const vault = await openDatastoreVault(store, { namespace: '', guestId }, { waitSeconds: 0 });
    await dumpSmallFrames(vault, machine, guestId, timeSeconds, disks);
  } finally {
    await machine.close();
    await store.close();
  }
}

/** Into any vault. */
export async function dumpSmallFrames(
  vault: Vault,
  machine: ReturnType<World['machine']>,
  guestId: string,
  timeSeconds: number,
  disks: readonly MemoryDisk[],
): Promise<void> {
  const sink = new ArchiveSink(vault, { ...machine, dataFrameBytes: 2 * CLUSTER });
  try {
    await sink.begin(describeBackup(guestId, disks, timeSeconds));
    for (const [index, { content }] of disks.entries()) await dumpDisk(sink, index, content);
    await sink.finish();
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

/** With some of the backups; with all by default. */
export async function makeTinyStore(
  base: string,
  backups: readonly TinyBackup[] = TINY_BACKUPS,
  options: WorldOptions = {},
): Promise<World> {
  const world = await World.create(base, { mapFanout: FANOUT, ...options });
  for (const backup of backups) await backUp(world, backup);
  await putLabel(world, NIGHT_1);
  return world;
}

async function putLabel(world: World, name: string): Promise<void> {
  const store = await world.open();
  const session = await store.beginSession('maintenance');
  try {
    const ref = parseBackupId(name)!;
    const { digest } = await readManifest(store.root, ref);
    const sidecar = { manifestDigest: digest, labels: new Map([['kept', 'yes']]), notes: '', isProtected: true };
    await writeSidecar(store, session, ref, sidecar, store.superblock.hash);
  } finally {
    await session.end();
    await store.close();
  }
}

export function tinyBackup(name: string): TinyBackup {
  return TINY_BACKUPS.find((backup) => backup.name === name)!;
}
