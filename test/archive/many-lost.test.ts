// SPDX-License-Identifier: MIT
// Readers of a backup that lost whole packs: whatever they miss is looked for in one pass through the packs, which can be
// ended, and which nobody waits for who reads something else.

import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openBackupDisk } from '#vmar/src/archive/backup-disk.js';
import { DatastoreChunks } from '#vmar/src/archive/datastore-chunks.js';
import { JointSearch } from '#vmar/src/archive/joint-search.js';
import { type OpenBackup, openBackup } from '#vmar/src/archive/open-backup.js';
import { type RestoreBackupOptions, restoreBackup } from '#vmar/src/archive/restore.js';
import { MemoryDevice } from '#vmar/src/block/memory-device.js';
import { createExecutor } from '#vmar/src/pipeline/executor.js';
import { ContainerReader } from '#vmar/src/store/container-reader.js';
import { packPath } from '#vmar/src/store/layout.js';
import { listManifests } from '#vmar/src/store/manifests.js';
import { seededRandom } from '../base/random.js';
import { memoryDirectory } from '../crash/memory-directory.js';
import { CLUSTER, World } from './world.js';

const scratch = memoryDirectory();
const CLUSTERS = 400;
const FANOUT = 16;
const HALF = (CLUSTERS / 2) * CLUSTER;
const FIRST_SECONDS = 1_770_000_000;
let worlds = 0;

afterEach(() => vi.restoreAllMocks());

const content = seededRandom(7).bytes(CLUSTERS * CLUSTER);

/** The first night has the first half of the disk, the second the whole: each half in packs of its own. */
async function worldOfHalves(): Promise<World> {
  const world = await World.create(join(scratch, `world-${worlds++}`), { mapFanout: FANOUT });
  const half = new Uint8Array(content.byteLength);
  half.set(content.subarray(0, HALF));
  await world.backup('100', [{ name: 'd', content: half }], FIRST_SECONDS);
  await world.backup('100', [{ name: 'd', content }], FIRST_SECONDS + 86_400);
  return world;
}

async function packsOfNight(world: World, night: number, holds: 'data' | 'pages'): Promise<string[]> {
  const { entries } = await listManifests(world.root);
  const nights = entries.sort((a, b) => a.ref.timeSeconds - b.ref.timeSeconds);
  const before = new Set(night === 0 ? [] : nights[night - 1]!.manifest.packs);
  const own = nights[night]!.manifest.packs.filter((packId) => !before.has(packId));
  const paths = own.map((packId) => packPath(world.root, packId)).sort((a, b) => statSync(b).size - statSync(a).size);
  return holds === 'data' ? paths.slice(0, 1) : paths.slice(1);
}

async function withBackup<Result>(world: World, work: (backup: OpenBackup) => Promise<Result>): Promise<Result> {
  const store = await world.open();
  const backup = await openBackup(store, '100/latest');
  try {
    return await work(backup);
  } finally {
    await backup.close();
    await store.close();
  }
}

const executor = createExecutor({ workers: 0, hash: 'blake3', level: 1, clusterSizeBytes: CLUSTER, pools: [] });
const OPTIONS: RestoreBackupOptions = { executor, overwrite: false, targetIsZero: false, allowDamaged: true };

const withoutFirstHalf = Buffer.concat([Buffer.alloc(HALF), content.subarray(HALF)]);
const FIRST_HALF = [{ disk: 'd', offsetBytes: 0, lengthBytes: HALF }];

describe('a backup that lost a pack of hundreds of chunks', () => {
  it('is restored to a file after one pass', async () => {
    const world = await worldOfHalves();
    for (const path of await packsOfNight(world, 0, 'data')) rmSync(path);
    const passes = vi.spyOn(DatastoreChunks.prototype, 'containers');
    const { content: restored, summary } = await world.restore('100/latest', 'd', true);
    expect(restored.equals(withoutFirstHalf)).toBe(true);
    expect(summary.damaged).toEqual([{ ...FIRST_HALF[0], problem: 'a chunk is in no pack' }]);
    expect(passes).toHaveBeenCalledTimes(1);
  });

  it('is not restored without --allow-damaged, which the first pass tells', async () => {
    const world = await worldOfHalves();
    for (const path of await packsOfNight(world, 0, 'data')) rmSync(path);
    const passes = vi.spyOn(DatastoreChunks.prototype, 'containers');
    await expect(world.restore('100/latest', 'd')).rejects.toMatchObject({ code: 'chunk-missing', exitStatus: 3 });
    expect(passes).toHaveBeenCalledTimes(1);
  });

  it('is restored to a device after one pass and one more that makes sure', async () => {
    const world = await worldOfHalves();
    for (const path of await packsOfNight(world, 0, 'data')) rmSync(path);
    const passes = vi.spyOn(DatastoreChunks.prototype, 'containers');
    const device = new MemoryDevice(content.byteLength);
    vi.spyOn(device, 'close').mockResolvedValue();
    const openDevice = async () => device;
    const { damaged } = await withBackup(world, (backup) =>
      restoreBackup(backup, [{ disk: 'd', target: 'memory' }], { ...OPTIONS, openDevice }),
    );
    const restored = Buffer.alloc(content.byteLength, 1);
    await device.read(0, restored);
    expect(restored.equals(withoutFirstHalf)).toBe(true);
    expect(damaged).toMatchObject(FIRST_HALF);
    expect(passes.mock.calls.length).toBeLessThanOrEqual(2);
  });

  it('that had its map is restored after one pass, too', async () => {
    const world = await worldOfHalves();
    for (const path of await packsOfNight(world, 0, 'pages')) rmSync(path);
    const passes = vi.spyOn(DatastoreChunks.prototype, 'containers');
    const { content: restored, summary } = await world.restore('100/latest', 'd', true);
    expect(restored.subarray(HALF + FANOUT * CLUSTER).equals(content.subarray(HALF + FANOUT * CLUSTER))).toBe(true);
    expect(summary.damaged.map(({ lengthBytes }) => lengthBytes).reduce((a, b) => a + b)).toBeGreaterThan(HALF / 2);
    expect(passes.mock.calls.length).toBeLessThanOrEqual(2);
  });

  it('of which every frame is damaged, which nobody knew, is restored after one pass', async () => {
    const world = await worldOfHalves();
    for (const path of await packsOfNight(world, 0, 'data')) {
      const bytes = readFileSync(path);
      const reader = ContainerReader.open(path);
      for (let frame = 0; frame < reader.footer.frameCount; frame++) bytes[reader.frame(frame).offsetBytes]! ^= 1;
      reader.close();
      writeFileSync(path, bytes);
    }
    const passes = vi.spyOn(DatastoreChunks.prototype, 'containers');
    const { content: restored, summary } = await world.restore('100/latest', 'd', true);
    expect(restored.equals(withoutFirstHalf)).toBe(true);
    expect(summary.damaged).toMatchObject(FIRST_HALF);
    expect(passes).toHaveBeenCalledTimes(1);
  });
});

describe('the log of a disk that is served', () => {
  it('tells the first ranges that are damaged, and that there are more', async () => {
    const world = await worldOfHalves();
    for (const path of await packsOfNight(world, 0, 'data')) rmSync(path);
    const warn = vi.fn();
    await withBackup(world, async (backup) => {
      const disk = await openBackupDisk(backup, 'd', { readAhead: false, log: { info() {}, debug() {}, warn } });
      for (let at = 0; at < HALF; at += CLUSTER) await disk.read(at, new Uint8Array(CLUSTER)).catch(() => undefined);
      await disk.close();
    });
    expect(warn.mock.calls.length).toBeLessThan(CLUSTERS / 2 / 2);
    expect(warn.mock.lastCall?.[0]).toContain('more is damaged');
  });
});

describe('a search through all packs', () => {
  /** Packs without end, until `release`. */
  function slowPacks() {
    const { containers } = DatastoreChunks.prototype;
    let begun = 0;
    let isReleased = false;
    vi.spyOn(DatastoreChunks.prototype, 'containers').mockImplementation(async function* (this: DatastoreChunks) {
      begun++;
      while (!isReleased) yield* containers.call(this);
    });
    const release = (): void => {
      isReleased = true;
    };
    return { release, hasBegun: () => begun > 0 };
  }

  it('keeps nobody waiting who reads what is there', async () => {
    const world = await worldOfHalves();
    for (const path of await packsOfNight(world, 0, 'data')) rmSync(path);
    const { release, hasBegun } = slowPacks();
    await withBackup(world, async (backup) => {
      const disk = await openBackupDisk(backup, 'd', { readAhead: false });
      const lost = disk.read(0, new Uint8Array(CLUSTER)).then(() => 'had', String);
      while (!hasBegun()) await turn();
      const into = Buffer.alloc(3 * CLUSTER);
      await disk.read(HALF + 2 * CLUSTER, into);
      expect(into.equals(content.subarray(HALF + 2 * CLUSTER, HALF + 5 * CLUSTER))).toBe(true);
      release();
      expect(await lost).toContain('the backup is damaged here');
      await disk.close();
    });
  });

  it('in which the datastore looked empty for a moment takes nothing for lost, however often that happens', async () => {
    const world = await worldOfHalves();
    const { containers } = DatastoreChunks.prototype;
    vi.spyOn(DatastoreChunks.prototype, 'locate').mockReturnValue(undefined);
    let isEmpty = true;
    vi.spyOn(DatastoreChunks.prototype, 'containers').mockImplementation(async function* (this: DatastoreChunks) {
      if (!isEmpty) yield* containers.call(this);
      isEmpty = false;
    });
    await withBackup(world, async (backup) => {
      const disk = await openBackupDisk(backup, 'd', { readAhead: false });
      for (let round = 0; round < 4; round++) {
        const into = Buffer.alloc(CLUSTER);
        await disk.read(round * CLUSTER, into);
        expect(into.equals(content.subarray(round * CLUSTER, (round + 1) * CLUSTER))).toBe(true);
        isEmpty = true;
        renameSync(world.root, `${world.root}.away`);
        await expect(backup.source.checkReachable()).rejects.toMatchObject({ code: 'store-unreachable' });
        renameSync(`${world.root}.away`, world.root);
      }
      await disk.close();
    });
  });

  it('in which packs went away is believed by nobody', async () => {
    const passes: number[] = [];
    let vanished = 0;
    const hooks = { found: vi.fn(), checkReachable: async () => {}, vanished: () => vanished, onLong: vi.fn() };
    const source = {
      containers: async function* () {
        passes.push(vanished);
        if (passes.length === 1) vanished++;
        yield* [];
      },
    };
    const search = new JointSearch(source, hooks);
    const id = new Uint8Array(32).fill(3);
    for (let round = 0; round < 3; round++) expect((await search.find(id)).places).toEqual([]);
    expect(passes).toEqual([0, 1]);
    search.doubt();
    for (let round = 0; round < 3; round++) await search.find(id);
    search.doubt();
    await search.find(id);
    expect(passes).toHaveLength(3);
  });

  it('in a datastore that is away fails, and is no answer', async () => {
    const isAway = new Error('away');
    const hooks = { found: vi.fn(), checkReachable: vi.fn(), vanished: () => 0, onLong: vi.fn() };
    hooks.checkReachable.mockResolvedValueOnce(undefined).mockRejectedValueOnce(isAway).mockResolvedValue(undefined);
    const containers = vi.fn(async function* () {
      yield* [];
    });
    const search = new JointSearch({ containers }, hooks);
    const id = new Uint8Array(32).fill(3);
    await expect(search.find(id)).rejects.toBe(isAway);
    expect((await search.find(id)).places).toEqual([]);
    expect(containers).toHaveBeenCalledTimes(2);
  });

  it('ends when the restore is interrupted', async () => {
    const world = await worldOfHalves();
    for (const path of await packsOfNight(world, 0, 'data')) rmSync(path);
    const { hasBegun } = slowPacks();
    const stop = new AbortController();
    const target = join(world.base, 'interrupted.raw');
    await withBackup(world, async (backup) => {
      const restore = restoreBackup(backup, [{ disk: 'd', target }], { ...OPTIONS, signal: stop.signal });
      const ended = expect(restore).rejects.toMatchObject({ code: 'interrupted' });
      while (!hasBegun()) await turn();
      stop.abort();
      await ended;
    });
    expect(statSync(target, { throwIfNoEntry: false })).toBeUndefined();
  });

  it('ends when the backup is closed', async () => {
    const world = await worldOfHalves();
    for (const path of await packsOfNight(world, 0, 'data')) rmSync(path);
    const { hasBegun } = slowPacks();
    const ended = await withBackup(world, async (backup) => {
      const disk = await openBackupDisk(backup, 'd', { readAhead: false });
      const lost = disk.read(0, new Uint8Array(CLUSTER)).then(() => 'had', String);
      while (!hasBegun()) await turn();
      return { lost };
    });
    expect(await ended.lost).toContain('interrupted');
  });
});
