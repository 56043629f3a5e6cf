// SPDX-License-Identifier: MIT
// Exports by stored frames: the archive holds what the backup holds and nothing else, whatever its frames share with other
// backups, and there is none where a chunk cannot be had.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { TABLE_CHUNK_BYTES } from '#vmar/formats/vmar/trailer.js';
import { ArchiveSink } from '#vmar/src/archive/archive-sink.js';
import { openArchiveVault } from '#vmar/src/archive/archive-vault.js';
import { copyBackup, createReader, describeAgain } from '#vmar/src/archive/copy-backup.js';
import { exportArchive } from '#vmar/src/archive/export-archive.js';
import { backupIdentity } from '#vmar/src/archive/identity.js';
import { openArchive, openBackup } from '#vmar/src/archive/open-backup.js';
import { restoreBackup } from '#vmar/src/archive/restore.js';
import { verifyArchive } from '#vmar/src/archive/verify/verify-archive.js';
import { toHex } from '#vmar/src/base/bytes.js';
import { ContainerReader } from '#vmar/src/store/container-reader.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { CLUSTER, type MemoryDisk, World, type WorldOptions } from './world.js';

const base = scratchDirectory();
const random = seededRandom(77);
let archives = 0;

/** Frames of noise that nobody else has, zeros, one cluster in many places, and an end that fills no cluster. */
function firstDisk(): Buffer {
  const content = Buffer.from(random.bytes(60 * CLUSTER + 777));
  content.fill(0, 20 * CLUSTER, 25 * CLUSTER);
  for (const cluster of [3, 30, 55]) content.set(content.subarray(40 * CLUSTER, 41 * CLUSTER), cluster * CLUSTER);
  return content;
}

/** As it was, but for some clusters here and there. */
function changed(content: Buffer, clusters: readonly number[]): Buffer {
  const next = Buffer.from(content);
  for (const cluster of clusters) next.set(random.bytes(CLUSTER), cluster * CLUSTER);
  return next;
}

const one = firstDisk();
const two = changed(one, [1, 9, 33, 34, 35]);
const backups: Record<string, readonly MemoryDisk[]> = {
  'vm/100/2025-10-09T08:53:20Z': [
    { name: 'scsi0', content: one },
    { name: 'empty', content: Buffer.alloc(0) },
    { name: 'zeros', content: Buffer.alloc(70_001) },
  ],
  'vm/100/2025-10-09T08:53:21Z': [
    { name: 'scsi0', content: two },
    { name: 'scsi1', content: one.subarray(0, 5 * CLUSTER) },
  ],
  // Of each frame of the others a part.
  'vm/200/2025-10-09T08:53:22Z': [
    {
      name: 'scsi0',
      content: changed(
        two,
        Array.from({ length: 30 }, (_, at) => 2 * at),
      ),
    },
  ],
};

async function withBackup<T>(
  world: World,
  name: string,
  work: (backup: Awaited<ReturnType<typeof openBackup>>) => Promise<T>,
) {
  const store = await world.open();
  try {
    const backup = await openBackup(store, name);
    return await work(backup).finally(async () => await backup.close());
  } finally {
    await store.close();
  }
}

function vaultFor(world: World, path: string) {
  const { hash = 'blake3', clusterSizeBytes = CLUSTER, mapFanout = 128 } = world.options;
  const options = { hash, clusterSizeBytes, fanout: mapFanout, scratchParent: world.base };
  return openArchiveVault({ kind: 'file', path, overwrite: false }, options);
}

async function exported(
  world: World,
  name: string,
  path = join(base, `export-${archives++}.vmar`),
  signal = new AbortController().signal,
): Promise<string> {
  const machine = world.machine();
  try {
    await withBackup(world, name, async (backup) => {
      let doneBytes = 0;
      const onProgress = (bytes: number) => {
        doneBytes += bytes;
      };
      const result = await exportArchive(backup, await vaultFor(world, path), { machine, signal, onProgress });
      expect(result.backup).toBe(path);
      expect(doneBytes).toBe(backup.manifest.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0));
    });
  } finally {
    await machine.close();
  }
  return path;
}

/** The same by reading the disks, cluster by cluster. */
async function exportedByDisks(world: World, name: string): Promise<string> {
  const path = join(base, `export-${archives++}.vmar`);
  const machine = world.machine();
  await withBackup(world, name, async (backup) => {
    const executor = createReader(backup, 0);
    const sink = new ArchiveSink(await vaultFor(world, path), machine);
    await copyBackup(backup, describeAgain(backup.manifest), sink, { executor });
    await executor.close();
  });
  await machine.close();
  return path;
}

interface Held {
  readonly ids: readonly string[];
  readonly seals: ReadonlySet<string>;
}

function heldBy(path: string): Held {
  const container = ContainerReader.open(path);
  const ids: string[] = [];
  for (let page = 0; page < container.chunkPageCount; page++) {
    const entries = container.chunkPage(page);
    for (let at = 0; at < entries.byteLength; at += TABLE_CHUNK_BYTES) ids.push(toHex(entries.subarray(at, at + 32)));
  }
  const seals = new Set<string>();
  for (const id of ids) {
    const place = container.find(Buffer.from(id, 'hex'));
    seals.add(toHex(container.frame(place!.frame).seal));
  }
  container.close();
  return { ids, seals };
}

const packsOf = ({ root }: World): string[] =>
  readdirSync(join(root, 'packs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.vmar'))
    .map((name) => join(root, 'packs', name));

const shapes: readonly WorldOptions[] = [{}, { hash: 'sha256', mapFanout: 16 }, { workers: 2 }];

describe.each(shapes)('an archive by stored frames, %o', (options) => {
  let world: World;

  beforeAll(async () => {
    world = await World.create(join(base, `world-${archives++}`), options);
    for (const [at, [name, disks]] of Object.entries(backups).entries()) {
      const made = await world.backup(name.split('/')[1]!, disks, 1_760_000_000 + at);
      expect(made.backup).toBe(name);
    }
  });

  it.each(Object.keys(backups))('of %s holds its chunks, each once, and no others', async (name) => {
    const path = await exported(world, name);
    const verified = await verifyArchive(path, { mode: 'full', portable: false, workers: 0 });
    expect(verified.damage).toEqual([]);
    const held = heldBy(path);
    expect([...held.ids].sort()).toEqual([...heldBy(await exportedByDisks(world, name)).ids].sort());
    const archive = await openArchive(path);
    const identity = await withBackup(world, name, async ({ manifest }) => backupIdentity(manifest));
    expect(toHex(backupIdentity(archive.manifest))).toBe(toHex(identity));
    const executor = createReader(archive, 0);
    for (const { name: disk, content } of backups[name]!) {
      const target = join(base, `restored-${archives++}.raw`);
      const settings = { executor, overwrite: false, targetIsZero: false, allowDamaged: false };
      await restoreBackup(archive, [{ disk, target }], settings);
      expect(readFileSync(target).equals(content), disk).toBe(true);
    }
    await executor.close();
    await archive.close();
  });

  it('has the frames of the first backup as they were stored', async () => {
    const [first] = Object.keys(backups) as [string];
    const stored = new Set(packsOf(world).flatMap((path) => [...heldBy(path).seals]));
    const kept = [...heldBy(await exported(world, first)).seals].filter((seal) => stored.has(seal));
    expect(kept.length).toBeGreaterThan(2);
  });

  it('is not there where a chunk of the backup is damaged, or it is stopped', async () => {
    const [first] = Object.keys(backups) as [string];
    const directory = join(base, `failed-${archives++}`);
    mkdirSync(directory);
    const path = join(directory, 'a.vmar');
    await expect(exported(world, first, path, AbortSignal.abort())).rejects.toMatchObject({ exitStatus: 130 });
    const failures: unknown[] = [];
    for (const pack of packsOf(world)) {
      const whole = readFileSync(pack);
      const spoilt = Buffer.from(whole);
      spoilt[whole.byteLength >> 1]! ^= 16;
      writeFileSync(pack, spoilt);
      const failure = await exported(world, first, path).catch((error: unknown) => error);
      writeFileSync(pack, whole);
      // Packs of the later backups do not matter to the first.
      if (failure === path) rmSync(path);
      else failures.push(failure);
      expect(readdirSync(directory)).toEqual([]);
    }
    expect(failures.length).toBeGreaterThan(0);
    for (const failure of failures) expect(failure).toMatchObject({ exitStatus: 3 });
  });
});
