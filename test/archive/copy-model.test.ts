// SPDX-License-Identifier: MIT
// Backups made, copied to another datastore in any order, forgotten and collected on both sides, also while a copy runs:
// what was copied and not forgotten is whole, and no dirty bitmap is taken to follow a copy. VMAR_TEST_SEED repeats.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { decodeManifest } from '#vmar/formats/vmar/manifest.js';
import { type CopyReport, copyBackups } from '#vmar/src/archive/copy/copy-stores.js';
import { openDatastoreVault } from '#vmar/src/archive/datastore-vault.js';
import { collectGarbage } from '#vmar/src/archive/gc/collect.js';
import { SILENT } from '#vmar/src/base/log.js';
import { type BackupRef, formatBackupId } from '#vmar/src/store/backup-id.js';
import { manifestPath } from '#vmar/src/store/layout.js';
import { forgetManifest } from '#vmar/src/store/manifests.js';
import { seededRandom } from '../base/random.js';
import { memoryDirectory } from '../crash/memory-directory.js';
import { CLUSTER, describe as describeBackup, dumpInto, World, type WorldOptions } from './world.js';

const SEED = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const scratch = memoryDirectory();
const POOL = Array.from({ length: 30 }, (_, at) => seededRandom(900 + at).bytes(CLUSTER));
const CLUSTERS = 40;
const STEPS = 40;

async function copy(from: World, to: World, refs: readonly BackupRef[]): Promise<CopyReport> {
  const [source, destination, machine] = [await from.open(), await to.open(), to.machine()];
  try {
    return await copyBackups(refs, {
      ...{ source, destination, machine, waitSeconds: 0, isDryRun: false, log: SILENT },
      ...{ signal: new AbortController().signal, onTotal: () => {}, onProgress: () => {} },
    });
  } finally {
    await machine.close();
    await source.close();
    await destination.close();
  }
}

async function collect(world: World): Promise<void> {
  const store = await world.open();
  await collectGarbage(store, { mostUnused: 0, isDryRun: false, workers: 0 });
  await store.close();
}

function refOf(guestId: string, timeSeconds: number): BackupRef {
  return { namespace: '', guestType: 'vm', guestId, timeSeconds };
}

function manifestOf(world: World, ref: BackupRef) {
  const path = manifestPath(world.root, ref);
  return decodeManifest(readFileSync(path), path).manifest;
}

const shapes: readonly (readonly [string, WorldOptions, WorldOptions])[] = [
  ['of one shape', { mapFanout: 16 }, { mapFanout: 16 }],
  ['of other clusters and another hash', { mapFanout: 16 }, { hash: 'sha256', clusterSizeBytes: 2 * CLUSTER }],
];

describe.each(shapes)('two datastores %s', (name, left, right) => {
  it(`keep what was copied (VMAR_TEST_SEED=${SEED})`, async () => {
    const random = seededRandom(SEED);
    const base = join(scratch, name.replaceAll(' ', '-'));
    const [a, b] = [await World.create(join(base, 'a'), left), await World.create(join(base, 'b'), right)];
    const [inA, inB] = [new Map<string, BackupRef>(), new Map<string, BackupRef>()];
    const contents = new Map<string, Buffer>();
    const disks = new Map<string, Buffer>();
    let time = 1_760_000_000;
    const any = (all: ReadonlyMap<string, BackupRef>): BackupRef[] => [...all.values()].filter(() => random.oneIn(2));
    const forget = async (world: World, all: Map<string, BackupRef>): Promise<void> => {
      const store = await world.open();
      for (const ref of any(all).slice(0, 2)) {
        await forgetManifest(store.fs, world.root, ref);
        all.delete(formatBackupId(ref));
      }
      await store.close();
    };
    for (let step = 0; step < STEPS; step++) {
      const what = random.integer(0, 9);
      if (what <= 3) {
        const guestId = `${random.integer(1, 2)}`;
        const disk = disks.get(guestId) ?? Buffer.alloc(CLUSTERS * CLUSTER - 100);
        for (let change = random.integer(1, 12); change > 0; change--) {
          const bytes = random.oneIn(4) ? Buffer.alloc(CLUSTER) : POOL[random.integer(0, POOL.length - 1)]!;
          disk.set(bytes.subarray(0, CLUSTER - 100), random.integer(0, CLUSTERS - 1) * CLUSTER);
        }
        disks.set(guestId, disk);
        time += 100;
        await a.backup(guestId, [{ name: 'd', content: disk }], time);
        const ref = refOf(guestId, time);
        inA.set(formatBackupId(ref), ref);
        contents.set(formatBackupId(ref), Buffer.from(disk));
      } else if (what <= 6) {
        const refs = any(inA);
        const beside = random.oneIn(2) ? [collect(a), collect(b)] : [];
        const [report] = await Promise.all([copy(a, b, refs), ...beside]);
        expect(report.failed).toEqual([]);
        for (const ref of refs) inB.set(formatBackupId(ref), ref);
      } else if (what === 7) await forget(b, inB);
      else if (what === 8) await forget(a, inA);
      else await collect(random.oneIn(2) ? a : b);
    }
    for (const world of [a, b]) expect((await world.verify()).damage).toEqual([]);
    for (const id of inB.keys()) {
      expect((await b.restore(id, 'd')).content.equals(contents.get(id)!), id).toBe(true);
    }
  });
});

describe('a dirty bitmap', () => {
  it('follows the backup that it began with, and no copy of it', async () => {
    const base = join(scratch, 'bitmap');
    const [a, b] = [await World.create(join(base, 'a')), await World.create(join(base, 'b'))];
    const disks = [{ name: 'd', content: POOL[0]! }];
    const [store, machine] = [await a.open(), a.machine()];
    const vault = await openDatastoreVault(store, { namespace: '', guestId: '1' }, { waitSeconds: 0 });
    const plain = describeBackup('1', disks, 1000);
    const description = { ...plain, disks: plain.disks.map((disk) => ({ ...disk, bitmapName: 'nightly' })) };
    await dumpInto(vault, machine, description, disks);
    await machine.close();
    await store.close();
    const ref = refOf('1', 1000);
    expect(manifestOf(a, ref).disks[0]?.bitmapName).toBe('nightly');
    expect((await copy(a, b, [ref])).copied).toMatchObject([{ isKnown: false, isRechunked: false }]);
    expect(manifestOf(b, ref).disks[0]?.bitmapName).toBe('');
  });
});
