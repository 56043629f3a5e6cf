// SPDX-License-Identifier: MIT
// Small disks as they change from night to night, and what a datastore must answer for them after a crash.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { openBackup } from '#vmar/src/archive/open-backup.js';
import { restoreBackup } from '#vmar/src/archive/restore.js';
import { verifyDatastore } from '#vmar/src/archive/verify/verify-datastore.js';
import { createExecutor } from '#vmar/src/pipeline/executor.js';
import { formatBackupId } from '#vmar/src/store/backup-id.js';
import type { Datastore } from '#vmar/src/store/datastore.js';
import { listManifests } from '#vmar/src/store/manifests.js';
import { CLUSTER, type MemoryDisk, type World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';

export const FIRST_NIGHT_SECONDS = 1_760_000_000;
const DAY_SECONDS = 86_400;

/** A backup as it should be found. */
export interface Night {
  /** Its full id. */
  readonly id: string;
  readonly guestId: string;
  readonly timeSeconds: number;
  readonly disks: readonly MemoryDisk[];
}

/**
 * The disks of a guest in a given night: noise that all guests share, noise of the guest, noise of the night, zeros, text,
 * and an end that fills no cluster.
 */
export function nightOf(guestId: string, night: number): Night {
  const timeSeconds = FIRST_NIGHT_SECONDS + night * DAY_SECONDS;
  const time = new Date(timeSeconds * 1000).toISOString().replace('.000Z', 'Z');
  const large = new Uint8Array(6 * CLUSTER + 1000);
  large.set(seededRandom(1).bytes(CLUSTER), 0);
  large.set(seededRandom(100 + Number(guestId)).bytes(CLUSTER), CLUSTER);
  large.set(seededRandom(1000 + night).bytes(CLUSTER), 3 * CLUSTER);
  large.fill(0x2e, 4 * CLUSTER, 5 * CLUSTER);
  large.set(seededRandom(2000 + night).bytes(1000), 6 * CLUSTER);
  const small = seededRandom(3000).bytes(700);
  const disks = [
    { name: 'large', content: large },
    { name: 'small', content: small },
  ];
  return { id: `vm/${guestId}/${time}`, guestId, timeSeconds, disks };
}

export async function backUpNight(world: World, night: Night): Promise<string> {
  return (await world.backup(night.guestId, night.disks, night.timeSeconds)).backup;
}

export interface Expected {
  /** Backups that must be there and whole. */
  readonly kept: readonly Night[];
  /** Backups that may be there, and are whole if they are. */
  readonly open?: readonly Night[];
}

/**
 * Looks at all of a datastore: nothing damaged, every backup that is there gives back what went in. Returns the ids of
 * those that are.
 */
export async function expectSound(world: World, { kept, open = [] }: Expected): Promise<string[]> {
  const { entries, damaged } = await listManifests(world.root);
  expect(damaged).toEqual([]);
  const listed = entries.map((entry) => formatBackupId(entry.ref));
  expect(listed).toEqual(expect.arrayContaining(kept.map((night) => night.id)));
  const known = new Map([...kept, ...open].map((night) => [night.id, night]));
  expect(listed.filter((id) => !known.has(id))).toEqual([]);
  const store = await world.open();
  try {
    expect((await verifyDatastore(store, { mode: 'full', portable: false, workers: 0 })).damage).toEqual([]);
    for (const id of listed) await expectRestores(store, world.base, known.get(id)!);
  } finally {
    await store.close();
  }
  return listed;
}

async function expectRestores(store: Datastore, base: string, { id, disks }: Night): Promise<void> {
  const options = { workers: 0, level: 1, pools: [], hash: store.superblock.hash };
  const executor = createExecutor({ ...options, clusterSizeBytes: store.superblock.clusterSizeBytes });
  const backup = await openBackup(store, id);
  try {
    const wanted = disks.map(({ name, content }) => ({ disk: name, content, target: join(base, `${name}.restored`) }));
    const how = { executor, overwrite: false, targetIsZero: false, allowDamaged: false };
    await restoreBackup(backup, wanted, how);
    for (const { disk, content, target } of wanted) {
      expect(readFileSync(target).equals(content), `${id} ${disk}`).toBe(true);
      rmSync(target);
    }
  } finally {
    await backup.close();
    await executor.close();
  }
}

/** What a backup leaves whose process dies. */
export function leaveDeadSession(world: World): void {
  const id = '0123456789abcdef'.repeat(2);
  mkdirSync(join(world.root, 'tmp', id));
  for (const name of ['a.vmar', 'manifest-1']) writeFileSync(join(world.root, 'tmp', id, name), 'unfinished');
  writeFileSync(join(world.root, 'locks', `session-${id}.lock`), '');
}

/** After a session has begun and ended with no other at work: nothing of any session is left. */
export function expectSwept(world: World): void {
  expect(readdirSync(join(world.root, 'tmp'))).toEqual([]);
  expect(readdirSync(join(world.root, 'locks')).filter((name) => name.startsWith('session-'))).toEqual([]);
}

/** Files of packs, for tests that count them. */
export function packFiles(world: World): string[] {
  const packs = join(world.root, 'packs');
  if (!existsSync(packs)) return [];
  return readdirSync(packs).flatMap((prefix) => readdirSync(join(packs, prefix)));
}
