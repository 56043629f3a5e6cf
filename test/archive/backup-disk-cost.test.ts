// SPDX-License-Identifier: MIT
// What reading a disk of a backup costs: one frame for one cluster, each frame once, nothing for zeros, memory within its
// bound.

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ArchiveSink } from '#vmar/src/archive/archive-sink.js';
import { openBackupDisk } from '#vmar/src/archive/backup-disk.js';
import { openDatastoreVault } from '#vmar/src/archive/datastore-vault.js';
import { FrameMemory } from '#vmar/src/archive/frame-memory.js';
import { openBackup } from '#vmar/src/archive/open-backup.js';
import { ReadStreams } from '#vmar/src/archive/read-streams.js';
import { FailedError } from '#vmar/src/base/errors.js';
import { createExecutor, type Executor, type LoadJob } from '#vmar/src/pipeline/executor.js';
import { ZERO } from '#vmar/src/plugin-api.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { withBackup } from './one-backup.js';
import { CLUSTER, World } from './world.js';

const base = scratchDirectory();
const MIB = 1 << 20;
/** 24 frames that cannot be compressed. */
const content = Buffer.from(seededRandom(1).bytes(24 * MIB));
const disks = [{ name: 'a', content }];

/** An executor that tells what it was asked to load. */
function watched(): { executor: Executor; jobs: LoadJob[] } {
  const jobs: LoadJob[] = [];
  const inline = createExecutor({ workers: 0, hash: 'blake3', level: 1, clusterSizeBytes: CLUSTER, pools: [] });
  const load: Executor['load'] = async (job) => {
    jobs.push(job);
    return await inline.load(job);
  };
  return { executor: new Proxy(inline, { get: (on, key) => (key === 'load' ? load : Reflect.get(on, key)) }), jobs };
}

describe.each(['datastore', 'archive'] as const)('a disk of 24 MiB in a %s', (kind) => {
  it('reads one frame for one cluster, and none for its neighbours', async () => {
    await withBackup(join(base, 'one'), { kind }, disks, async (backup) => {
      const { executor, jobs } = watched();
      const device = await openBackupDisk(backup, 'a', { executor, readAhead: false });
      const into = Buffer.alloc(4096);
      await device.read(5 * MIB + 8192, into);
      expect(into.equals(content.subarray(5 * MIB + 8192, 5 * MIB + 12288))).toBe(true);
      expect(jobs.length).toBe(1);
      expect(device.loaded.storedBytes).toBeLessThanOrEqual(MIB);
      for (let at = 5 * MIB; at < 6 * MIB; at += CLUSTER) await device.read(at, into);
      expect(jobs.length).toBeLessThanOrEqual(2);
      await device.close();
    });
  });

  it('loads each frame once for many who want it at the same time', async () => {
    await withBackup(join(base, 'many'), { kind }, disks, async (backup) => {
      const { executor, jobs } = watched();
      const [one, two] = [await openBackupDisk(backup, 'a', { executor }), await openBackupDisk(backup, 'a')];
      const whole = Buffer.alloc(content.byteLength);
      const small = Array.from({ length: 24 * 16 }, async (_, index) => {
        const into = Buffer.alloc(1000);
        await (index % 2 === 0 ? one : two).read(index * CLUSTER + 10, into);
        expect(into.equals(content.subarray(index * CLUSTER + 10, index * CLUSTER + 1010))).toBe(true);
      });
      await Promise.all([one.read(0, whole), ...small]);
      expect(whole.equals(content)).toBe(true);
      expect(jobs.length).toBeLessThanOrEqual(26);
      await Promise.all([one.close(), two.close()]);
    });
  });

  it('reads on ahead of a sequential reader, and not of a random one', async () => {
    await withBackup(join(base, 'ahead'), { kind }, disks, async (backup) => {
      const { executor, jobs } = watched();
      const device = await openBackupDisk(backup, 'a', { executor });
      for (const at of [20, 3, 11, 7]) await device.read(at * MIB + 70_000, Buffer.alloc(4096));
      expect(jobs.map(({ chunks }) => chunks.length)).toEqual([1, 1, 1, 1]);
      for (let at = 0; at < 4; at++) await device.read(at * 256 * 1024, Buffer.alloc(256 * 1024));
      await device.prefetch(0, MIB);
      expect(jobs.length).toBeGreaterThan(5);
      expect(jobs.at(-1)?.chunks.length).toBe(16);
      await device.close();
    });
  });

  it('keeps to the memory it was given, and stays right', async () => {
    await withBackup(join(base, 'small'), { kind }, disks, async (backup) => {
      const { executor, jobs } = watched();
      const device = await openBackupDisk(backup, 'a', { executor, cacheBytes: 1 });
      const memories = new Set<SharedArrayBuffer>();
      for (let round = 0; round < 2; round++) {
        const whole = Buffer.alloc(content.byteLength);
        await Promise.all([device.read(0, whole), device.prefetch(0, content.byteLength)]);
        expect(whole.equals(content)).toBe(true);
      }
      for (const { memory } of jobs) memories.add(memory);
      expect([...memories].reduce((sum, memory) => sum + memory.byteLength, 0)).toBeLessThanOrEqual(8 * MIB);
      await device.close();
    });
  });
});

it('many random readers are right with threads and little memory, with threads that die, and without any', async () => {
  await withBackup(join(base, 'stress'), { kind: 'datastore' }, disks, async (backup) => {
    const threads = createExecutor({ workers: 2, hash: 'blake3', level: 1, clusterSizeBytes: CLUSTER, pools: [] });
    let left = 10;
    const load: Executor['load'] = async (job) => {
      if (left-- > 0) return await threads.load(job);
      throw new FailedError('worker-died', 'a worker thread died: for a test');
    };
    const dying = new Proxy(threads, { get: (on, key) => (key === 'load' ? load : Reflect.get(on, key)) });
    for (const options of [{ executor: threads }, { executor: dying }, {}]) {
      const random = seededRandom(7);
      const device = await openBackupDisk(backup, 'a', { ...options, cacheBytes: 1 });
      const reads = Array.from({ length: 300 }, async () => {
        const from = random.integer(0, content.byteLength - 1);
        const length = Math.min(random.oneIn(20) ? 9 * MIB : random.integer(1, 200_000), content.byteLength - from);
        const into = Buffer.alloc(length);
        await device.read(from, into);
        if (!into.equals(content.subarray(from, from + length))) throw new Error(`wrong bytes at ${from}`);
      });
      await Promise.all(reads);
      await device.close();
    }
    await threads.close();
  });
});

it('a sparse disk of 64 TiB opens, tells its status and reads at once', async () => {
  const world = await World.create(join(base, 'sparse'));
  const sizeBytes = 64 * 2 ** 40;
  const clusters = sizeBytes / CLUSTER;
  const far = clusters - 12345;
  const store = await world.open();
  const machine = world.machine();
  const vault = await openDatastoreVault(store, { namespace: '', guestId: '9' }, { waitSeconds: 0 });
  const sink = new ArchiveSink(vault, machine);
  const description = { namespace: '', guestId: '9', timeSeconds: 1000, source: 'image', configs: [] } as const;
  await sink.begin({ ...description, consistency: 'offline', disks: [{ name: 'big', kind: 'disk', sizeBytes }] });
  await sink.dumpRange(0, 0, far, ZERO);
  await sink.dump(0, far, Buffer.alloc(CLUSTER, 'here'));
  await sink.dumpRange(0, far + 1, clusters - far - 1, ZERO);
  await sink.finish();
  await machine.close();
  const backup = await openBackup(store, '9');
  const device = await openBackupDisk(backup, 'big');
  const extents = await device.blockStatus(0, sizeBytes);
  expect(extents.slice(0, 3)).toEqual([
    { offsetBytes: 0, lengthBytes: far * CLUSTER, state: 'zero' },
    { offsetBytes: far * CLUSTER, lengthBytes: CLUSTER, state: 'data' },
    { offsetBytes: (far + 1) * CLUSTER, lengthBytes: sizeBytes - (far + 1) * CLUSTER, state: 'zero' },
  ]);
  const into = Buffer.alloc(8);
  await device.read(far * CLUSTER - 4, into);
  expect(into.toString('latin1')).toBe('\0\0\0\0here');
  expect(device.loaded.frames).toBe(1);
  await device.close();
  await backup.close();
  await store.close();
});

it('memory for frames is used again, and never more than its bound', () => {
  const memory = new FrameMemory(4 * MIB);
  const pieces = [memory.take(MIB), memory.take(MIB - 5), memory.take(2 * MIB)];
  expect(pieces.map((piece) => piece?.byteLength)).toEqual([MIB, MIB, 2 * MIB]);
  expect(memory.take(1)).toBeUndefined();
  memory.giveBack(pieces[0]!);
  expect(memory.take(MIB)).toBe(pieces[0]);
  memory.giveBack(pieces[2]!);
  expect(memory.take(70_000)?.byteLength).toBe(131_072);
  expect(memory.usedBytes).toBe(2 * MIB + 131_072);
});

describe('streams of reads', () => {
  it('are told apart, out of order as they may come', () => {
    const streams = new ReadStreams(8 * MIB);
    const order = [0, 2, 1, 3, 5, 4, 6, 7];
    let ahead = 0;
    for (const step of order) {
      for (const start of [0, 400 * MIB]) {
        const range = streams.note(start + step * 65536, 65536, 2 ** 40).ahead;
        if (range === undefined) continue;
        expect(range.lengthBytes).toBeLessThanOrEqual(8 * MIB);
        if (start === 0) ahead = range.offsetBytes + range.lengthBytes;
      }
    }
    expect(ahead).toBeGreaterThan(8 * 65536);
  });

  it('never reach past the end', () => {
    const streams = new ReadStreams(8 * MIB);
    let end = 0;
    for (let at = 0; at < 100_000; at += 1000) {
      const range = streams.note(at, 1000, 100_000).ahead;
      if (range === undefined) continue;
      expect(range.offsetBytes).toBeGreaterThanOrEqual(end);
      end = range.offsetBytes + range.lengthBytes;
      expect(end).toBeLessThanOrEqual(100_000);
    }
    expect(end).toBe(100_000);
  });
});
