// SPDX-License-Identifier: MIT
// What verify remembers: portions that go on where the last one ended, several verifiers at once, files of state/ that are
// damaged themselves, and damage that a reader meets.

import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openBackup } from '#vmar/src/archive/open-backup.js';
import { verifyDatastore } from '#vmar/src/archive/verify/verify-datastore.js';
import type { VerifySchedule } from '#vmar/src/archive/verify/verify-schedule.js';
import { duePacks } from '#vmar/src/archive/verify/verify-schedule.js';
import { SILENT } from '#vmar/src/base/log.js';
import { BackupHealth } from '#vmar/src/store/backup-health.js';
import { ContainerReader } from '#vmar/src/store/container-reader.js';
import { damageListPaths, KnownDamage, readDamage } from '#vmar/src/store/damage-list.js';
import { packPath } from '#vmar/src/store/layout.js';
import { listManifests } from '#vmar/src/store/manifests.js';
import { historyPath, VerifyHistory } from '#vmar/src/store/verify-history.js';
import { memoryDirectory } from '../crash/memory-directory.js';
import { backUpNight, nightOf, packFiles as packNames } from '../crash/nights.js';
import { World } from './world.js';

const scratch = memoryDirectory();
let worlds = 0;

async function worldOf(nights: number): Promise<World> {
  const world = await World.create(join(scratch, `world-${worlds++}`));
  for (let night = 0; night < nights; night++) await backUpNight(world, nightOf('100', night));
  return world;
}

async function verify(world: World, schedule?: Partial<VerifySchedule>, remembers = true) {
  const store = await world.open();
  try {
    const portion = { olderThanMillis: 3_600_000, budgetMillis: Number.POSITIVE_INFINITY, ...schedule };
    const options = { mode: 'full' as const, portable: false, workers: 0, remembers };
    return await verifyDatastore(store, schedule === undefined ? options : { ...options, schedule: portion });
  } finally {
    await store.close();
  }
}

function packFiles(world: World): string[] {
  return packNames(world).map((name) => packPath(world.root, name.slice(0, 32)));
}

function packIds(world: World): string[] {
  return packFiles(world).map((path) => /([0-9a-f]{32})\.vmar$/.exec(path)![1]!);
}

function flip(path: string, offset: number): void {
  const bytes = readFileSync(path);
  bytes[offset]! ^= 0x10;
  writeFileSync(path, bytes);
}

/** The largest pack, a byte in its first frame flipped. */
function damageFrame(world: World): string {
  const [largest] = packFiles(world).sort((a, b) => readFileSync(b).length - readFileSync(a).length);
  flip(largest!, 2000);
  return largest!;
}

async function lastVerified(world: World): Promise<(number | undefined)[]> {
  const health = await BackupHealth.read(world.root, SILENT);
  return (await listManifests(world.root)).entries.map((entry) => health.lastVerifiedMillis(entry));
}

describe('verify in portions', () => {
  it('goes on where the last one ended, and reads nothing twice', async () => {
    const world = await worldOf(6);
    const all = packIds(world).length;
    expect(await lastVerified(world)).toEqual(Array(6).fill(undefined));
    let read = 0;
    let followed = 0;
    for (let portion = 0; portion < 30; portion++) {
      const { schedule, checked } = await verify(world, { budgetMillis: 0 });
      expect(checked.packs).toBe(schedule!.packsRead);
      read += checked.packs;
      followed += checked.backups;
      expect(schedule!.packsLeft).toBe(all - read);
      expect(schedule!.isBudgetReached).toBe(read < all || followed < 6);
      if (!schedule!.isBudgetReached) break;
    }
    expect(read).toBe(all);
    expect(followed).toBe(6);
    for (const millis of await lastVerified(world)) expect(millis).toBeGreaterThan(Date.now() - 60_000);
    expect((await verify(world, {})).schedule).toMatchObject({ packsRead: 0, packsLeft: 0, isBudgetReached: false });
    // All of it again, where everything is due.
    expect((await verify(world, { olderThanMillis: 0 })).schedule).toMatchObject({ packsRead: all });
  });

  it('takes first what is damaged, then what was never read, then the oldest', () => {
    const pack = (n: number) => `${n}`.repeat(32);
    const id = (n: number) => Buffer.from(pack(n), 'hex');
    const times = [5000, 0, 9000, 3000, 99_000];
    const packs = times.map((readMillis, at) => ({ packId: id(at), readMillis, neededBy: [] }));
    const history = new VerifyHistory({ backups: [], packs }, 100_000);
    const entry = { sinceMillis: 1, seenMillis: 1, isWhole: true, isGone: false, isMet: false, problem: '', places: 1 };
    const damaged = { ...entry, packId: pack(4), frames: new Set<number>(), chunks: new Set<string>() };
    const known = new KnownDamage([{ ...damaged, touched: new Set() }]);
    const schedule = { olderThanMillis: 92_000, budgetMillis: 0 };
    const due = duePacks([0, 1, 2, 3, 4].map(pack), schedule, history, known, 100_000);
    expect(due).toEqual([4, 1, 3, 0].map(pack));
  });

  it('believes no time that is in the future', async () => {
    const world = await worldOf(1);
    await verify(world);
    const history = await VerifyHistory.read(world.root, SILENT, Date.now() - 7 * 86_400_000);
    for (const packId of packIds(world)) expect(history.packReadMillis(packId)).toBeUndefined();
  });

  it('is shared by several at once', async () => {
    const world = await worldOf(6);
    const reports = await Promise.all([1, 2, 3].map(() => verify(world, {})));
    const history = await VerifyHistory.read(world.root, SILENT);
    for (const packId of packIds(world)) expect(history.packReadMillis(packId)).toBeDefined();
    expect(reports.flatMap(({ damage }) => damage)).toEqual([]);
    const read = reports.reduce((sum, { checked }) => sum + checked.packs, 0);
    expect(read).toBeLessThan(3 * packIds(world).length);
  });

  it('tells damage that it did not get to read again, and exits as damaged', async () => {
    const world = await worldOf(3);
    damageFrame(world);
    expect((await verify(world)).damage).toHaveLength(1);
    const { damage } = await verify(world, { budgetMillis: 0 });
    expect(damage.map(({ backups }) => backups.size > 0)).toEqual([true]);
  });

  it('ends with its budget when many backups may need what is damaged, and the next ones ask the rest', async () => {
    const nights = 8;
    const world = await worldOf(nights);
    damageFrame(world);
    const { damage } = await verify(world, undefined, false);
    const [{ backups: touched }] = damage as [(typeof damage)[0]];
    const left: number[] = [];
    let named = new Set<string>();
    // Whom a run asks next is left to chance.
    for (let run = 0; run < 500 && named.size < touched.size; run++) {
      const { schedule } = await verify(world, { budgetMillis: 0, olderThanMillis: 0 });
      left.push(schedule!.namesLeft);
      expect(schedule!.isBudgetReached).toBe(true);
      const known = await readDamage(world.root, SILENT);
      const now = new Set(known.backups);
      for (const name of named) expect(now).toContain(name);
      named = now;
    }
    expect(Math.max(...left)).toBeGreaterThan(0);
    expect([...named].sort()).toEqual([...touched].sort());
    // With all the time there is, only those are named that it touches.
    expect((await verify(world, { olderThanMillis: 0 })).schedule).toMatchObject({
      namesLeft: 0,
      isBudgetReached: false,
    });
    expect([...(await readDamage(world.root, SILENT)).backups].sort()).toEqual([...touched].sort());
  });
});

describe('the verify history', () => {
  it('says by which backups a pack is needed', async () => {
    const world = await worldOf(2);
    await verify(world);
    const history = await VerifyHistory.read(world.root, SILENT);
    const { entries } = await listManifests(world.root);
    for (const packId of packIds(world)) {
      const named = entries.filter(({ manifest }) => manifest.packs.includes(packId)).length;
      expect(history.neededBy(packId)).toHaveLength(named);
    }
  });

  it('forgets packs and backups that are gone', async () => {
    const world = await worldOf(2);
    await verify(world);
    const gone = packFiles(world)[0]!;
    rmSync(gone);
    await verify(world, {});
    const history = await VerifyHistory.read(world.root, SILENT);
    expect(history.packReadMillis(/([0-9a-f]{32})\.vmar$/.exec(gone)![1]!)).toBeUndefined();
  });
});

describe('a damaged file in state/', () => {
  it('is found and named, harms no backup, and is made anew', async () => {
    const template = await worldOf(2);
    damageFrame(template);
    await verify(template);
    const files = [historyPath(template.root), ...damageListPaths(template.root)];
    for (const [at, path] of files.entries()) {
      const name = path.slice(template.root.length);
      const size = readFileSync(path).length;
      for (const offset of [0, 9, 41, Math.floor(size / 2), size - 1]) {
        const base = join(scratch, `state-${at}-${offset}`);
        cpSync(template.base, base, { recursive: true });
        const world = World.at(base);
        flip(join(world.root, name), offset);
        const { damage } = await verify(world, undefined, false);
        const found = damage.filter(({ kind }) => kind === (at === 0 ? 'verify-history' : 'damage-list'));
        expect(
          found.map(({ file }) => file.slice(world.root.length)),
          `${name} at ${offset}`,
        ).toEqual([name]);
        // One copy of the list is enough to heal by.
        await backUpNight(world, nightOf('100', 1));
        await backUpNight(world, { ...nightOf('100', 0), timeSeconds: nightOf('100', 9).timeSeconds });
        const again = await verify(world);
        expect(again.damage.flatMap(({ disks }) => [...disks])).toEqual([]);
        const last = await verify(world);
        expect(last.damage.map(({ kind }) => kind)).toEqual(['frame']);
        rmSync(base, { recursive: true });
      }
    }
  });

  it('that is both copies of the damage list leaves backups as they are without one', async () => {
    const world = await worldOf(1);
    damageFrame(world);
    await verify(world);
    for (const path of damageListPaths(world.root)) flip(path, 60);
    await backUpNight(world, nightOf('100', 1));
    const { damage } = await verify(world);
    expect(damage.map(({ kind }) => kind).sort()).toEqual(['damage-list', 'damage-list', 'frame']);
    expect((await readDamage(world.root, SILENT)).packs.size).toBe(1);
  });
});

describe('a reader that meets damage', () => {
  it('puts it on the list, and the next backup heals it without a verify', async () => {
    const world = await worldOf(1);
    const night = nightOf('100', 0);
    const path = damageFrame(world);
    await expect(world.restore(night.id, night.disks[0]!.name)).rejects.toThrow();
    const known = await readDamage(world.root, SILENT);
    expect([...known.packs.values()].map(({ packId, isMet }) => [path.includes(packId), isMet])).toEqual([
      [true, true],
    ]);
    expect(known.isDamaged(night.id)).toBe(true);
    await backUpNight(world, { ...night, timeSeconds: nightOf('100', 1).timeSeconds });
    for (const disk of night.disks) {
      expect((await world.restore(night.id, disk.name)).content.equals(disk.content)).toBe(true);
    }
    const { damage } = await verify(world, {});
    expect(damage.flatMap(({ disks }) => [...disks])).toEqual([]);
  });

  it('says nothing of what was only away for a moment', async () => {
    const world = await worldOf(1);
    const night = nightOf('100', 0);
    const path = damageFrame(world);
    const store = await world.open();
    const backup = await openBackup(store, night.id);
    const container = ContainerReader.open(path);
    backup.source.distrust?.({ container, frame: 0, offsetBytes: 0, lengthBytes: 1 });
    container.close();
    // The byte is as it was when somebody looks again.
    flip(path, 2000);
    await backup.close();
    await store.close();
    expect((await readDamage(world.root, SILENT)).isEmpty).toBe(true);
    expect(readdirSync(join(world.root, 'tmp'))).toEqual([]);
  });
});
