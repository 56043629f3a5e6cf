// SPDX-License-Identifier: MIT
// What stats counts, against a model that looks at the disks themselves, and against what gc says is needed.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { collectGarbage } from '#vmar/src/archive/gc/collect.js';
import { PagePlaces } from '#vmar/src/archive/gc/page-places.js';
import { byPeriod } from '#vmar/src/archive/stats/periods.js';
import { collectStats, type StoreStats } from '#vmar/src/archive/stats/stats.js';
import { formatGuest } from '#vmar/src/store/backup-id.js';
import { forgetManifests, listManifests } from '#vmar/src/store/manifests.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { randomDisk } from './random-disk.js';
import { CLUSTER, World } from './world.js';

const FANOUT = 16;
const NIGHT = 1_760_000_000;
const DAY = 86_400;
const directory = scratchDirectory();

afterEach(() => void vi.restoreAllMocks());

/** Chunks by what they hold: their lengths. Zeros are none. */
type Chunks = Map<string, number>;

/** The chunks of a disk, its map's pages too, and what of it is not zero. */
function chunksOf(disk: Uint8Array): { chunks: Chunks; logicalBytes: number } {
  const chunks: Chunks = new Map();
  let logicalBytes = 0;
  let level = 0;
  let keys: string[] = [];
  for (let at = 0; at < disk.byteLength; at += CLUSTER) {
    const cluster = disk.subarray(at, at + CLUSTER);
    const isZero = cluster.every((byte) => byte === 0);
    const key = isZero ? '' : createHash('sha256').update(cluster).digest('hex');
    if (!isZero) chunks.set(key, cluster.byteLength);
    if (!isZero) logicalBytes += cluster.byteLength;
    keys.push(key);
  }
  while (level === 0 || keys.length > 1) {
    level++;
    const above: string[] = [];
    for (let first = 0; first < keys.length; first += FANOUT) {
      const children = keys.slice(first, first + FANOUT);
      const isZero = children.every((key) => key === '');
      const key = isZero
        ? ''
        : createHash('sha256')
            .update(`page ${level} ${children.join(' ')}`)
            .digest('hex');
      if (!isZero) chunks.set(key, children.length * 32);
      above.push(key);
    }
    keys = above;
  }
  return { chunks, logicalBytes };
}

function bytesOf(chunks: Chunks): number {
  return [...chunks.values()].reduce((sum, length) => sum + length, 0);
}

interface Made {
  readonly guest: string;
  readonly timeSeconds: number;
  readonly sizeBytes: number;
  readonly chunks: Chunks;
  readonly logicalBytes: number;
}

/** Some nights of three guests, of which two have much in common. */
async function makeNights(world: World, seed: number): Promise<Made[]> {
  const random = seededRandom(seed);
  const made: Made[] = [];
  const template = randomDisk(seed, 40 * CLUSTER + random.integer(0, CLUSTER));
  const disks = new Map([
    ['100', template.slice()],
    ['101', template.slice()],
    ['102', randomDisk(seed + 1, random.integer(1, 30) * CLUSTER)],
  ]);
  for (let night = 0; night < 4; night++) {
    for (const [guest, content] of disks) {
      if (random.integer(0, 4) === 0) continue;
      const timeSeconds = NIGHT + night * DAY + random.integer(0, 3600);
      for (let change = random.integer(0, 4); change > 0; change--) {
        const at = random.integer(0, Math.floor(content.byteLength / CLUSTER) - 1) * CLUSTER;
        const end = Math.min(content.byteLength, at + CLUSTER);
        if (random.integer(0, 3) === 0) content.fill(0, at, end);
        else content.set(random.bytes(end - at), at);
      }
      const second = content.subarray(0, 5 * CLUSTER);
      await world.backup(
        guest,
        [
          { name: 'a', content },
          { name: 'b', content: second },
        ],
        timeSeconds,
      );
      const [one, two] = [chunksOf(content), chunksOf(second)];
      made.push({
        ...{ guest: `vm/${guest}`, timeSeconds, sizeBytes: content.byteLength + second.byteLength },
        chunks: new Map([...one.chunks, ...two.chunks]),
        logicalBytes: one.logicalBytes + two.logicalBytes,
      });
    }
  }
  return made;
}

function union(made: readonly Made[]): Chunks {
  return new Map(made.flatMap(({ chunks }) => [...chunks]));
}

function sumOf(made: readonly Made[], of: (one: Made) => number): number {
  return made.reduce((sum, one) => sum + of(one), 0);
}

async function statsOf(world: World): Promise<StoreStats> {
  const store = await world.open();
  return await collectStats(store).finally(() => store.close());
}

async function neededBytes(world: World): Promise<number> {
  const store = await world.open();
  const report = await collectGarbage(store, { mostUnused: 0.1, isDryRun: true }).finally(() => store.close());
  return report.liveBytes;
}

async function forgetGuest(world: World, guest: string): Promise<void> {
  const store = await world.open();
  const refs = (await listManifests(world.root)).entries.map(({ ref }) => ref);
  const ofGuest = refs.filter((ref) => formatGuest(ref) === guest);
  await forgetManifests(store.fs, world.root, ofGuest[0]!, ofGuest);
  await store.close();
}

const seed = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 1e6));
const rounds = Number(process.env.VMAR_TEST_ROUNDS ?? 2);

describe('stats', () => {
  it(`count as the disks themselves do, by guest and over time (seed ${seed})`, async () => {
    for (let round = 0; round < rounds; round++) {
      const world = await World.create(join(directory, `model-${round}`), { mapFanout: FANOUT });
      const made = await makeNights(world, seed + round);
      const stats = await statsOf(world);
      expect(stats).toMatchObject({
        sizeBytes: sumOf(made, ({ sizeBytes }) => sizeBytes),
        logicalBytes: sumOf(made, ({ logicalBytes }) => logicalBytes),
        uniqueBytes: bytesOf(union(made)),
        missingChunks: 0,
        lost: [],
      });
      for (const { guest, backups, ...amounts } of stats.guests) {
        const own = made.filter((one) => one.guest === formatGuest(guest));
        expect(backups).toBe(own.length);
        expect(amounts).toMatchObject({
          sizeBytes: sumOf(own, ({ sizeBytes }) => sizeBytes),
          logicalBytes: sumOf(own, ({ logicalBytes }) => logicalBytes),
          uniqueBytes: bytesOf(union(own)),
        });
      }
      // Each chunk counts for the first backup in time that has it.
      const seen = new Set<string>();
      const inTime = [...made].sort((a, b) => a.timeSeconds - b.timeSeconds);
      for (const [index, one] of inTime.entries()) {
        const fresh = [...one.chunks].filter(([key]) => !seen.has(key));
        for (const [key] of fresh) seen.add(key);
        expect(stats.backups[index]!.ref.timeSeconds).toBe(one.timeSeconds);
        expect(stats.backups[index]!.newBytes).toBe(bytesOf(new Map(fresh)));
      }
      const periods = byPeriod(stats.backups, 'day');
      expect(periods.at(-1)!.untilThen).toMatchObject({
        backups: made.length,
        logicalBytes: stats.logicalBytes,
        uniqueBytes: stats.uniqueBytes,
      });
    }
  });

  it(`agree with gc about what is stored, and what a guest alone holds is what its end frees (seed ${seed})`, async () => {
    const world = await World.create(join(directory, 'gc'), { mapFanout: FANOUT });
    await makeNights(world, seed);
    const stats = await statsOf(world);
    const before = await neededBytes(world);
    // gc counts the copies of manifests in packs too.
    const copies = 10_000 * stats.backups.length;
    expect(Math.abs(before - stats.storedBytes)).toBeLessThan(copies);
    expect(before).toBeGreaterThan(stats.storedBytes);
    for (const { guest, aloneBytes } of stats.guests) {
      const left = (await statsOf(world)).storedBytes;
      await forgetGuest(world, formatGuest(guest));
      const freed = left - (await statsOf(world)).storedBytes;
      if (guest.guestId === '100') expect(Math.abs(freed - aloneBytes)).toBeLessThan(50);
      else expect(freed).toBeGreaterThan(aloneBytes - 50);
    }
    expect(await statsOf(world)).toMatchObject({ storedBytes: 0, uniqueBytes: 0, guests: [], backups: [] });
  });

  it('read no page again that an earlier backup of the guest had', async () => {
    const world = await World.create(join(directory, 'cost'), { mapFanout: FANOUT });
    const content = randomDisk(5, 300 * CLUSTER);
    const reads = vi.spyOn(PagePlaces.prototype, 'read');
    await world.backup('100', [{ name: 'a', content }], NIGHT);
    await statsOf(world);
    const once = reads.mock.calls.length;
    expect(once).toBeGreaterThan(10);
    for (let night = 1; night < 6; night++) await world.backup('100', [{ name: 'a', content }], NIGHT + night * DAY);
    reads.mockClear();
    const stats = await statsOf(world);
    expect(stats.backups).toHaveLength(6);
    expect(reads.mock.calls.length).toBe(once);
    content.fill(7, 0, CLUSTER);
    await world.backup('100', [{ name: 'a', content }], NIGHT + 6 * DAY);
    reads.mockClear();
    expect((await statsOf(world)).backups.at(-1)!.newBytes).toBeLessThan(2 * CLUSTER);
    // One way down the map: 16^3 clusters.
    expect(reads.mock.calls.length).toBe(once + 3);
  });
});
