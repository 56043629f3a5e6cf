// SPDX-License-Identifier: MIT
// Reading a disk of a damaged backup as a device: whatever can be had is right, whatever cannot is an error of its own
// range, and a datastore that is away is not called damaged.

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type BackupDisk, openBackupDisk } from '#vmar/src/archive/backup-disk.js';
import { type OpenBackup, openArchive, openBackup } from '#vmar/src/archive/open-backup.js';
import { DamageError, VmarError } from '#vmar/src/base/errors.js';
import { CLUSTER, type MemoryDisk, World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { filesIn } from './anatomy.js';
import { ARCHIVE_DISKS, makeTinyArchive } from './tiny-archive.js';
import { backUp, diskOf, filled, makeTinyStore, NIGHT_1, TINY_BACKUPS } from './tiny-store.js';
import { dropIndex } from './truth.js';

const base = scratchDirectory();
const FLIPS = 60;

async function withDisk<Result>(
  world: World,
  backup: string,
  disk: string,
  test: (device: BackupDisk, open: OpenBackup) => Promise<Result>,
): Promise<Result> {
  const store = await world.open();
  try {
    const open = await openBackup(store, backup);
    const device = await openBackupDisk(open, disk);
    return await test(device, open).finally(async () => {
      await device.close();
      await open.close();
    });
  } finally {
    await store.close();
  }
}

/** Offsets of the clusters that cannot be had. @throws Error if one is wrong, or fails in any other way. */
async function lostClusters(device: BackupDisk, content: Uint8Array): Promise<number[]> {
  const lost: number[] = [];
  for (let at = 0; at < content.byteLength; at += CLUSTER) {
    const into = Buffer.alloc(Math.min(CLUSTER, content.byteLength - at), 0xee);
    try {
      await device.read(at, into);
      if (!into.equals(content.subarray(at, at + into.byteLength))) throw new Error(`wrong bytes at ${at}`);
    } catch (error) {
      if (!(error instanceof DamageError)) throw error;
      expect(error.object).toBe(device.name);
      expect(error.offsetBytes).toBeLessThanOrEqual(at);
      lost.push(at);
    }
  }
  await checkStatus(device, content);
  return lost;
}

/** Nothing is called zero that is not. */
async function checkStatus(device: BackupDisk, content: Uint8Array): Promise<void> {
  for (let at = 0; at < content.byteLength; ) {
    for (const { offsetBytes, lengthBytes, state } of await device.blockStatus(at, content.byteLength - at)) {
      const bytes = content.subarray(offsetBytes, offsetBytes + lengthBytes);
      if (state === 'zero') expect(bytes.every((byte) => byte === 0)).toBe(true);
      at = offsetBytes + lengthBytes;
    }
  }
}

/** What a restore that goes on past damage leaves out, in clusters. */
async function lostByRestore(world: World, backup: string, disk: MemoryDisk): Promise<number[]> {
  const { damaged } = (await world.restore(backup, disk.name, true)).summary;
  return damaged.flatMap(({ offsetBytes, lengthBytes }) =>
    Array.from({ length: Math.ceil(lengthBytes / CLUSTER) }, (_, index) => offsetBytes + index * CLUSTER),
  );
}

it.each([1, 2, 3])('of a datastore with a flipped bit no less is read than restored, seed %i', async (seed) => {
  const world = await makeTinyStore(join(base, `flips-${seed}`));
  const random = seededRandom(seed);
  const packs = filesIn(world.root).filter((name) => name.startsWith('packs/'));
  for (let flip = 0; flip < FLIPS; flip++) {
    const path = join(world.root, packs[random.integer(0, packs.length - 1)]!);
    const original = readFileSync(path);
    const damaged = Buffer.from(original);
    const at = random.integer(0, damaged.byteLength - 1);
    damaged[at]! ^= 1 << random.integer(0, 7);
    writeFileSync(path, damaged);
    for (const { name, disks } of TINY_BACKUPS) {
      for (const disk of disks) {
        const lost = await withDisk(world, name, disk.name, (device) => lostClusters(device, disk.content));
        if (lost.length === 0) continue;
        const restoreLoses = new Set(await lostByRestore(world, name, disk));
        expect(lost.filter((cluster) => !restoreLoses.has(cluster))).toEqual([]);
      }
    }
    writeFileSync(path, original);
  }
});

it('of an archive with a flipped bit whatever can be had is right', async () => {
  const { path } = await makeTinyArchive(join(base, 'archive'));
  const original = readFileSync(path);
  const random = seededRandom(9);
  let damage = 0;
  for (let flip = 0; flip < 2 * FLIPS; flip++) {
    const bytes = Buffer.from(original);
    bytes[random.integer(0, bytes.byteLength - 1)]! ^= 4;
    writeFileSync(path, bytes);
    try {
      const backup = await openArchive(path);
      for (const { name, content } of ARCHIVE_DISKS) {
        const device = await openBackupDisk(backup, name);
        damage += (await lostClusters(device, content)).length;
        await device.close();
      }
      await backup.close();
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
    }
  }
  expect(damage).toBeGreaterThan(0);
});

it('a damaged range costs its own reads only, also in one large read, and is told of once', async () => {
  const world = await World.create(join(base, 'range'));
  const content = Buffer.from(seededRandom(4).bytes(40 * CLUSTER));
  await world.backup('1', [{ name: 'a', content }], 1000);
  const path = filesIn(world.root)
    .filter((name) => name.startsWith('packs/'))
    .map((name) => join(world.root, name))
    .find((name) => readFileSync(name).byteLength > 40 * CLUSTER)!;
  const pack = readFileSync(path);
  const at = pack.indexOf(content.subarray(20 * CLUSTER, 20 * CLUSTER + 64));
  pack[at + 100]! ^= 1;
  writeFileSync(path, pack);
  const store = await world.open();
  const backup = await openBackup(store, '1');
  const told: string[] = [];
  const log = { info() {}, debug() {}, warn: (message: string) => told.push(message) };
  const device = await openBackupDisk(backup, 'a', { log });
  const expected = { exitStatus: 3, object: device.name, offsetBytes: 20 * CLUSTER };
  for (const [from, to] of [
    [0, 40],
    [20, 21],
    [19, 22],
  ] as const) {
    await expect(device.read(from * CLUSTER, Buffer.alloc((to - from) * CLUSTER))).rejects.toMatchObject(expected);
  }
  expect(told.length).toBe(1);
  for (const [from, to] of [
    [0, 20],
    [21, 40],
  ] as const) {
    const into = Buffer.alloc((to - from) * CLUSTER);
    await device.read(from * CLUSTER, into);
    expect(into.equals(content.subarray(from * CLUSTER, to * CLUSTER))).toBe(true);
  }
  await device.close();
  await backup.close();
  await store.close();
});

it('a copy in another pack is read where one is damaged, whichever it is', async () => {
  const world = await World.create(join(base, 'copies'));
  const disk = { name: 'a', content: diskOf(3 * CLUSTER, { 0: filled('one'), 2: seededRandom(1).bytes(CLUSTER) }) };
  const packs = join(world.root, 'packs');
  await world.backup('1', [disk], 1000);
  renameSync(packs, `${packs}.hidden`);
  mkdirSync(packs);
  dropIndex(world);
  await world.backup('2', [disk], 1000);
  const second = filesIn(packs);
  for (const prefix of readdirSync(`${packs}.hidden`)) {
    mkdirSync(join(packs, prefix), { recursive: true });
    for (const name of readdirSync(join(`${packs}.hidden`, prefix))) {
      renameSync(join(`${packs}.hidden`, prefix, name), join(packs, prefix, name));
    }
  }
  rmSync(`${packs}.hidden`, { recursive: true });
  dropIndex(world);
  for (const isSecond of [true, false]) {
    const originals = filesIn(packs)
      .filter((name) => second.includes(name) === isSecond)
      .map((name) => ({ path: join(packs, name), bytes: readFileSync(join(packs, name)) }));
    for (const { path, bytes } of originals) {
      const damaged = Buffer.from(bytes);
      for (let at = 300; at < damaged.byteLength - 2000; at += 50) damaged[at]! ^= 0xff;
      writeFileSync(path, damaged);
    }
    expect(await withDisk(world, 'vm/1', 'a', (device) => lostClusters(device, disk.content))).toEqual([]);
    for (const { path, bytes } of originals) writeFileSync(path, bytes);
  }
});

it('a pack that is gone costs the clusters in it', async () => {
  const world = await makeTinyStore(join(base, 'gone'));
  const [disk] = TINY_BACKUPS[0]!.disks;
  let lost = 0;
  for (const name of filesIn(world.root).filter((name) => name.startsWith('packs/'))) {
    const path = join(world.root, name);
    renameSync(path, `${path}.away`);
    lost += await withDisk(world, NIGHT_1, 'a', async (device) => (await lostClusters(device, disk!.content)).length);
    renameSync(`${path}.away`, path);
  }
  expect(lost).toBeGreaterThan(0);
});

describe('a datastore that goes away', () => {
  const away = { code: 'store-unreachable', exitStatus: 1 };
  const [disk] = TINY_BACKUPS[0]!.disks;

  it('is told apart from damage, and read again when it is back', async () => {
    const world = await makeTinyStore(join(base, 'away'));
    await withDisk(world, NIGHT_1, 'a', async (device) => {
      renameSync(world.root, `${world.root}.moved`);
      await expect(device.read(0, Buffer.alloc(10))).rejects.toMatchObject({ ...away, object: world.root });
      await expect(device.blockStatus(0, 10)).rejects.toMatchObject(away);
      await device.prefetch(0, 10);
      renameSync(`${world.root}.moved`, world.root);
      expect(await lostClusters(device, disk!.content)).toEqual([]);
    });
  });

  it('is not mistaken for another in its place', async () => {
    const world = await makeTinyStore(join(base, 'other'));
    await withDisk(world, NIGHT_1, 'a', async (device) => {
      renameSync(world.root, `${world.root}.moved`);
      await World.create(join(base, 'other'));
      await expect(device.read(0, Buffer.alloc(10))).rejects.toMatchObject(away);
      rmSync(world.root, { recursive: true });
      renameSync(`${world.root}.moved`, world.root);
      expect(await lostClusters(device, disk!.content)).toEqual([]);
    });
  });

  it('and comes back while many read costs nobody a wrong byte or a word of damage', async () => {
    const world = await makeTinyStore(join(base, 'toggled'));
    await withDisk(world, NIGHT_1, 'a', async (first, open) => {
      // Else what it keeps serves all.
      await first.close();
      let [right, refused] = [0, 0];
      for (let round = 0; round < 60; round++) {
        open.source.openAgain();
        const device = await openBackupDisk(open, 'a');
        const clusters = Array.from({ length: 18 }, (_, index) => index * CLUSTER);
        // Else all might be over in time, each time.
        const isLong = round % 20 === 19;
        if (isLong) renameSync(world.root, `${world.root}.moved`);
        const reads = clusters.map(async (at) => {
          const into = Buffer.alloc(Math.min(CLUSTER, disk!.content.byteLength - at), 0xee);
          try {
            await device.read(at, into);
            expect(into.equals(disk!.content.subarray(at, at + into.byteLength))).toBe(true);
            right++;
          } catch (error) {
            expect(error).toMatchObject(away);
            refused++;
          }
        });
        if (!isLong) renameSync(world.root, `${world.root}.moved`);
        for (let turn = 0; turn < round % 7; turn++) await new Promise(setImmediate);
        if (isLong) await Promise.all(reads);
        renameSync(`${world.root}.moved`, world.root);
        await Promise.all(reads);
        await device.close();
      }
      expect(right).toBeGreaterThan(0);
      expect(refused).toBeGreaterThan(0);
    });
  });

  it('may be an archive', async () => {
    const { path } = await makeTinyArchive(join(base, 'archive-away'));
    const backup = await openArchive(path);
    const device = await openBackupDisk(backup, 'a');
    renameSync(path, `${path}.moved`);
    backup.source.openAgain();
    await expect(device.read(CLUSTER, Buffer.alloc(10))).rejects.toMatchObject({ ...away, object: path });
    renameSync(`${path}.moved`, path);
    expect(await lostClusters(device, ARCHIVE_DISKS[0]!.content)).toEqual([]);
    await device.close();
    await backup.close();
  });
});

it('what was read and closed leaves no descriptor open', async () => {
  const world = await makeTinyStore(join(base, 'descriptors'));
  const before = readdirSync('/proc/self/fd').length;
  for (let round = 0; round < 3; round++) {
    await withDisk(world, NIGHT_1, 'a', async (device, open) => {
      await lostClusters(device, TINY_BACKUPS[0]!.disks[0]!.content);
      open.source.openAgain();
      void device.prefetch(0, 4 * CLUSTER);
    });
  }
  expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 4);
  await backUp(world, { name: 'vm/100/2026-01-03T02:00:00Z', disks: TINY_BACKUPS[0]!.disks });
});
