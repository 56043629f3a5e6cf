// SPDX-License-Identifier: MIT
// What gc takes and what it leaves: whatever was backed up and not forgotten is whole afterwards, and what nobody needs
// is gone.

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openDatastoreVault } from '#vmar/src/archive/datastore-vault.js';
import { collectGarbage, type GcOptions, type GcReport } from '#vmar/src/archive/gc/collect.js';
import type { VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { verifyDatastore } from '#vmar/src/archive/verify/verify-datastore.js';
import { parseBackupId } from '#vmar/src/store/backup-id.js';
import { packPath } from '#vmar/src/store/layout.js';
import { forgetManifest } from '#vmar/src/store/manifests.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { seededRandom } from '../../base/random.js';
import { memoryDirectory } from '../../crash/memory-directory.js';
import { backUpNight, expectSound, type Night, nightOf, packFiles } from '../../crash/nights.js';
import { FaultFs } from '../../store/fault-fs.js';
import { CLUSTER, describe as describeBackup, dumpInto, type MemoryDisk, World } from '../world.js';

const scratch = memoryDirectory();
let worlds = 0;

async function newWorld(): Promise<World> {
  return await World.create(join(scratch, `world-${worlds++}`));
}

async function gc(world: World, options: Partial<GcOptions> = {}): Promise<GcReport> {
  const store = await world.open();
  try {
    return await collectGarbage(store, { mostUnused: 0.1, isDryRun: false, workers: 0, ...options });
  } finally {
    await store.close();
  }
}

describe('a dry run where nothing can be written', () => {
  it('tells what it finds, and that nobody knew of it', async () => {
    const world = await newWorld();
    const nights = [0, 1, 2].map((night) => nightOf('100', night));
    for (const night of nights) await backUpNight(world, night);
    await forget(world, nights[0]!);
    const before = await gc(world, { isDryRun: true });
    expect(before.isAnnounced).toBe(true);
    rmSync(join(world.root, 'locks', 'gc.lock'));
    for (const code of ['EROFS', 'EACCES'] as const) {
      const store = await world.open(new FaultFs(new RealFs(), { at: 1, code, lasting: true }));
      const options = { mostUnused: 0.1, workers: 0 };
      const { isAnnounced, plan, packs } = await collectGarbage(store, { ...options, isDryRun: true });
      expect(isAnnounced).toBe(false);
      expect({ plan, packs }).toEqual({ plan: before.plan, packs: before.packs });
      await expect(collectGarbage(store, { ...options, isDryRun: false })).rejects.toMatchObject({ exitStatus: 1 });
      await store.close();
    }
    expect(before.plan.length).toBeGreaterThan(0);
  });
});

async function verify(world: World): Promise<VerifyReport> {
  const store = await world.open();
  try {
    return await verifyDatastore(store, { mode: 'full', portable: false, workers: 0 });
  } finally {
    await store.close();
  }
}

async function forget(world: World, ...nights: Night[]): Promise<void> {
  const store = await world.open();
  for (const { id } of nights) await forgetManifest(store.fs, world.root, parseBackupId(id)!);
  await store.close();
}

/** A backup that is under way until it is told to go on. */
async function begin(world: World, night: Night) {
  const store = await world.open();
  const machine = world.machine();
  const vault = await openDatastoreVault(store, { namespace: '', guestId: night.guestId }, { waitSeconds: 0 });
  const close = async (): Promise<void> => {
    await machine.close();
    await store.close();
  };
  return {
    finish: async (): Promise<void> => {
      const description = describeBackup(night.guestId, night.disks, night.timeSeconds);
      await dumpInto(vault, machine, description, night.disks);
      await close();
    },
    abort: async (): Promise<void> => {
      await vault.abort();
      await close();
    },
  };
}

function noise(seed: number, clusters: number): Uint8Array {
  return seededRandom(seed).bytes(clusters * CLUSTER);
}

function nightWith(guestId: string, night: number, disks: readonly MemoryDisk[]): Night {
  return { ...nightOf(guestId, night), disks };
}

describe('gc', () => {
  it('of an empty datastore does nothing', async () => {
    const world = await newWorld();
    expect(await gc(world)).toMatchObject({ backups: 0, deleted: { packs: 0 }, plan: [], damaged: [] });
    expect(readdirSync(join(world.root, 'state'))).toEqual([]);
  });

  it('deletes what forgotten backups alone needed, and keeps what others need', async () => {
    const world = await newWorld();
    const nights = [nightOf('100', 0), nightOf('100', 1), nightOf('200', 0), nightOf('300', 2)];
    for (const night of nights) await backUpNight(world, night);
    const [first, second, other, last] = nights as [Night, Night, Night, Night];
    await forget(world, first, last);
    const dry = await gc(world, { isDryRun: true });
    const before = packFiles(world).length;
    expect(dry.plan.length).toBeGreaterThan(0);
    const report = await gc(world);
    expect(report.plan).toEqual(dry.plan);
    expect(report.deleted.packs).toBeGreaterThan(0);
    expect(report).toMatchObject({ waiting: { packs: 0 }, reprieved: { packs: 0 }, damaged: [], missingChunks: 0 });
    expect(packFiles(world).length).toBeLessThan(before);
    await expectSound(world, { kept: [second, other] });
    await forget(world, second, other);
    await gc(world);
    expect(packFiles(world)).toEqual([]);
    await backUpNight(world, nightOf('100', 5));
    await expectSound(world, { kept: [nightOf('100', 5)] });
  });

  it('rewrites packs of which much is unused', async () => {
    const world = await newWorld();
    const big = noise(1, 40);
    const old = nightWith('100', 0, [{ name: 'd', content: big }]);
    const kept = nightWith('200', 0, [{ name: 'd', content: big.slice(3 * CLUSTER, 9 * CLUSTER + 100) }]);
    await backUpNight(world, old);
    await backUpNight(world, kept);
    await forget(world, old);
    const report = await gc(world);
    expect(report.rewritten.packs).toBe(1);
    expect(report.written.bytes).toBeLessThan(8 * CLUSTER);
    await expectSound(world, { kept: [kept] });
    expect(await gc(world)).toMatchObject({ plan: [], deleted: { packs: 0 } });
    // What was rewritten is deduplicated against, by this host and by one that knows nothing.
    const again = nightWith('300', 0, kept.disks);
    const elsewhere = World.at(world.base, { fs: undefined } as object);
    for (const [seen, night] of [
      [world, again],
      [elsewhere, nightWith('301', 0, kept.disks)],
    ] as const) {
      const { disks } = await seen.backup(night.guestId, night.disks, night.timeSeconds);
      expect(disks[0]).toMatchObject({ newBytes: 0 });
    }
  });

  it('joins the small packs that many nights leave, with the copies of manifests in them', async () => {
    const world = await newWorld();
    const nights = Array.from({ length: 10 }, (_, night) => nightOf('100', night));
    for (const night of nights) await backUpNight(world, night);
    const before = packFiles(world).length;
    const report = await gc(world);
    expect(before).toBeGreaterThanOrEqual(20);
    expect(packFiles(world).length).toBeLessThan(before / 4);
    expect(report.plan.every(({ fate }) => fate === 'small')).toBe(true);
    await expectSound(world, { kept: nights });
    expect(await gc(world)).toMatchObject({ plan: [] });
    // The previous backup is compared with, although its packs are gone.
    const next = nightOf('100', 10);
    const { disks } = await world.backup('100', next.disks, next.timeSeconds);
    expect(disks[0]!.unchangedBytes).toBeGreaterThan(0);
    await expectSound(world, { kept: [...nights, next] });
    await forget(world, ...nights);
    await gc(world);
    await expectSound(world, { kept: [next] });
  });

  it('is refused while another is at work', async () => {
    const world = await newWorld();
    await backUpNight(world, nightOf('100', 0));
    const results = await Promise.allSettled([gc(world), gc(world)]);
    const refused = results.filter((result) => result.status === 'rejected');
    expect(refused.map(({ reason }) => reason.code)).toEqual(['gc-busy']);
  });
});

describe('beside backups that run', () => {
  it('deletes nothing that one may rest on, and goes on when it has ended', async () => {
    const world = await newWorld();
    const old = nightOf('100', 0);
    await backUpNight(world, old);
    // It knows the old packs, and rests on them.
    const same = nightWith('200', 1, old.disks);
    const running = await begin(world, same);
    await forget(world, old);
    const during = await gc(world);
    expect(during.deleted.packs).toBe(0);
    expect(during.waiting).toMatchObject({ sessions: 1 });
    expect(during.waiting.packs).toBeGreaterThan(0);
    await running.finish();
    const after = await gc(world);
    expect(after.reprieved.packs).toBeGreaterThan(0);
    await expectSound(world, { kept: [same] });
    await gc(world);
    await expectSound(world, { kept: [same] });
  });

  it('a backup that begins later stores anew what is condemned', async () => {
    const world = await newWorld();
    const old = nightOf('100', 0);
    await backUpNight(world, old);
    const running = await begin(world, nightOf('200', 7));
    await forget(world, old);
    expect((await gc(world)).waiting.packs).toBeGreaterThan(0);
    const later = nightWith('300', 1, old.disks);
    const { disks } = await world.backup('300', later.disks, later.timeSeconds);
    expect(disks[0]!.newBytes).toBeGreaterThan(0);
    await running.abort();
    const after = await gc(world);
    expect(after.reprieved.packs).toBe(0);
    expect(after.deleted.packs).toBeGreaterThan(0);
    await expectSound(world, { kept: [later] });
  });

  it('a parent that rests on condemned packs is not believed, until gc has looked at it', async () => {
    const world = await newWorld();
    const old = nightOf('100', 0);
    await backUpNight(world, old);
    const same = nightWith('200', 1, old.disks);
    const running = await begin(world, same);
    const reader = await (await world.open()).beginSession('read');
    await forget(world, old);
    await gc(world);
    await running.finish();
    // Its own parent may be forgotten and deleted before it commits.
    const next = await begin(world, nightWith('200', 2, old.disks));
    await forget(world, same);
    await reader.end();
    const report = await gc(world);
    expect(report.deleted.packs).toBeGreaterThan(0);
    await next.finish();
    await expectSound(world, { kept: [nightWith('200', 2, old.disks)] });
  });

  it('packs of a backup that has not committed yet are left alone', async () => {
    const world = await newWorld();
    await backUpNight(world, nightOf('100', 0));
    await forget(world, nightOf('100', 0));
    const running = await begin(world, nightOf('200', 3));
    await backUpNight(world, nightOf('300', 3));
    await forget(world, nightOf('300', 3));
    const report = await gc(world);
    expect(report.plan.filter(({ fate }) => fate === 'dead').length).toBe(2);
    await running.finish();
    await expectSound(world, { kept: [nightOf('200', 3)] });
  });
});

describe('damage', () => {
  it('of a manifest: nothing is deleted', async () => {
    const world = await newWorld();
    const [a, b] = [nightOf('100', 0), nightOf('200', 5)];
    for (const night of [a, b]) await backUpNight(world, night);
    await forget(world, a);
    const path = join(world.root, 'manifests', `${b.id}.manifest`);
    const good = readFileSync(path);
    const bad = Buffer.from(good);
    bad[100]! ^= 1;
    writeFileSync(path, bad);
    const before = packFiles(world);
    await expect(gc(world)).rejects.toMatchObject({ code: 'unknown-needs', exitStatus: 3 });
    expect(packFiles(world)).toEqual(before);
    writeFileSync(path, good);
    expect((await gc(world)).deleted.packs).toBeGreaterThan(0);
    await expectSound(world, { kept: [b] });
  });

  it('of a map page: nothing is deleted', async () => {
    const world = await newWorld();
    const [a, b] = [nightOf('100', 0), nightOf('200', 5)];
    for (const night of [a, b]) await backUpNight(world, night);
    await forget(world, a);
    const before = packFiles(world);
    for (const name of before) {
      const path = packPath(world.root, name.slice(0, 32));
      const bytes = readFileSync(path);
      // The first frame of a pack of maps.
      if (bytes[93] !== 2) continue;
      bytes[256 + 96 + 2 * 48 + 32 + 5]! ^= 1;
      writeFileSync(path, bytes);
    }
    await expect(gc(world)).rejects.toMatchObject({ code: 'unknown-needs', exitStatus: 3 });
    expect(packFiles(world)).toEqual(before);
  });

  it('of the record: everything is stored anew until gc has made it anew, and nothing is lost', async () => {
    const world = await newWorld();
    const nights = Array.from({ length: 10 }, (_, night) => nightOf('100', night));
    for (const night of nights) await backUpNight(world, night);
    await gc(world);
    const path = join(world.root, 'state', 'fossils');
    expect(existsSync(path)).toBe(true);
    const record = readFileSync(path);
    for (const at of [0, 12, 80, record.length - 1]) {
      const flipped = Buffer.from(record);
      flipped[at]! ^= 1;
      writeFileSync(path, flipped);
      const { damage } = await verify(world);
      expect(damage.map(({ kind, file }) => [kind, file])).toEqual([['fossils', path]]);
    }
    writeFileSync(path, record.subarray(1));
    const next = nightWith('200', 3, nights[3]!.disks);
    const { disks } = await world.backup('200', next.disks, next.timeSeconds);
    expect(disks[0]!.newBytes).toBeGreaterThan(0);
    await gc(world);
    await gc(world);
    const { disks: again } = await world.backup('201', next.disks, next.timeSeconds);
    expect(again[0]!.newBytes).toBe(0);
    await expectSound(world, { kept: [...nights, next, { ...nightWith('201', 3, next.disks) }] });
  });

  it('of a chunk that a later backup stored anew: the sound copy stays', async () => {
    const world = await newWorld();
    const content = noise(9, 10);
    const first = nightWith('100', 0, [{ name: 'd', content }]);
    await backUpNight(world, first);
    const [damagedPack] = packFiles(world).filter(
      (name) => readFileSync(packPath(world.root, name.slice(0, 32)))[93] === 1,
    );
    const hidden = packPath(world.root, damagedPack!.slice(0, 32));
    const bytes = readFileSync(hidden);
    // A host that cannot read the record stores all of it once more.
    writeFileSync(join(world.root, 'state', 'fossils'), 'nonsense');
    const second = nightWith('200', 0, [{ name: 'd', content: content.slice(0, 5 * CLUSTER) }]);
    await backUpNight(world, second);
    bytes[3 * CLUSTER]! ^= 1;
    writeFileSync(hidden, bytes);
    const report = await gc(world);
    expect(report.deleted.packs).toBe(0);
    expect(report.damaged.length).toBe(1);
    const { content: restored } = await world.restore(second.id, 'd');
    expect(restored.equals(second.disks[0]!.content)).toBe(true);
  });
});
