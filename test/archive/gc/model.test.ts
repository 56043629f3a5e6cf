// SPDX-License-Identifier: MIT
// Backups that begin, go on and end in any order, readers that come and go, backups that are forgotten, and gc at any
// moment between: whatever is committed and not forgotten is whole. VMAR_GC_STEPS makes it longer, VMAR_TEST_SEED repeats.

import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ArchiveSink } from '#vmar/src/archive/archive-sink.js';
import { openDatastoreVault } from '#vmar/src/archive/datastore-vault.js';
import { collectGarbage } from '#vmar/src/archive/gc/collect.js';
import type { Machine } from '#vmar/src/archive/machine.js';
import { parseBackupId } from '#vmar/src/store/backup-id.js';
import type { Datastore } from '#vmar/src/store/datastore.js';
import { forgetManifest } from '#vmar/src/store/manifests.js';
import type { Session } from '#vmar/src/store/session.js';
import { seededRandom } from '../../base/random.js';
import { memoryDirectory } from '../../crash/memory-directory.js';
import { expectSound, type Night } from '../../crash/nights.js';
import { CLUSTER, describe as describeBackup, dumpDisk, World } from '../world.js';

const STEPS = Number(process.env.VMAR_GC_STEPS ?? 120);
const SEED = Number(process.env.VMAR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const scratch = memoryDirectory();

interface OpenBackup {
  readonly night: Night;
  readonly sink: ArchiveSink;
  readonly store: Datastore;
  readonly machine: Machine;
  isDumped: boolean;
}

const random = seededRandom(SEED);
/** What all guests' clusters are drawn from: much is shared, some of it by forgotten backups only. */
const POOL = Array.from({ length: 24 }, (_, at) => seededRandom(5000 + at).bytes(CLUSTER));
const CLUSTERS = 20;

class Model {
  readonly world: World;
  readonly committed = new Map<string, Night>();
  readonly open: OpenBackup[] = [];
  readonly readers: { session: Session; store: Datastore }[] = [];
  readonly disks = new Map<string, Uint8Array>();
  readonly tally = { backups: 0, aborted: 0, forgotten: 0, gcs: 0, deleted: 0, rewritten: 0, reprieved: 0, waiting: 0 };
  #time = 1_760_000_000;

  constructor(world: World) {
    this.world = world;
  }

  async step(): Promise<void> {
    const what = random.integer(0, 11);
    if (what <= 2) await this.begin();
    else if (what === 3) await this.dump();
    else if (what <= 5) await this.commit();
    else if (what <= 7) await this.forget();
    else if (what === 8) await this.read();
    else await this.collect();
  }

  async begin(): Promise<void> {
    const guestId = `${100 + random.integer(0, 3)}`;
    if (this.open.some(({ night }) => night.guestId === guestId)) return;
    const content = this.disks.get(guestId) ?? new Uint8Array(CLUSTERS * CLUSTER);
    const changes = random.integer(0, 8);
    for (let change = 0; change < changes; change++) {
      const from = random.oneIn(5) ? new Uint8Array(CLUSTER) : POOL[random.integer(0, POOL.length - 1)]!;
      content.set(from, random.integer(0, CLUSTERS - 1) * CLUSTER);
    }
    this.disks.set(guestId, content);
    const disks = [{ name: 'd', content: content.slice() }];
    const timeSeconds = this.#time++;
    const store = await this.world.open();
    const vault = await openDatastoreVault(store, { namespace: '', guestId }, { waitSeconds: 0 });
    const machine = this.world.machine();
    const sink = new ArchiveSink(vault, machine);
    await sink.begin(describeBackup(guestId, disks, timeSeconds));
    this.open.push({ night: { id: '', guestId, timeSeconds, disks }, sink, store, machine, isDumped: false });
  }

  /** Dumps all of a backup, and does not commit it. */
  async dump(): Promise<void> {
    const waiting = this.open.filter(({ isDumped }) => !isDumped);
    if (waiting.length === 0) return;
    const backup = waiting[random.integer(0, waiting.length - 1)]!;
    await dumpDisk(backup.sink, 0, backup.night.disks[0]!.content);
    backup.isDumped = true;
  }

  async commit(): Promise<void> {
    if (this.open.length === 0) return;
    const [backup] = this.open.splice(random.integer(0, this.open.length - 1), 1);
    const { night, sink, store, machine, isDumped } = backup!;
    if (random.oneIn(6)) {
      await sink.abort();
      this.tally.aborted++;
    } else {
      if (!isDumped) await dumpDisk(sink, 0, night.disks[0]!.content);
      const { backup: id } = await sink.finish();
      this.committed.set(id, { ...night, id });
      this.tally.backups++;
    }
    await machine.close();
    await store.close();
  }

  async forget(): Promise<void> {
    const ids = [...this.committed.keys()];
    if (ids.length === 0) return;
    const id = ids[random.integer(0, ids.length - 1)]!;
    const ref = parseBackupId(id)!;
    // As the command does: whoever backs up the guest has its lock.
    if (this.open.some(({ night }) => night.guestId === ref.guestId) && random.oneIn(2)) return;
    const store = await this.world.open();
    await forgetManifest(store.fs, this.world.root, ref);
    await store.close();
    this.committed.delete(id);
    this.tally.forgotten++;
  }

  async read(): Promise<void> {
    if (this.readers.length < 2 && random.oneIn(2)) {
      const store = await this.world.open();
      this.readers.push({ session: await store.beginSession('read'), store });
      return;
    }
    const reader = this.readers.shift();
    await reader?.session.end();
    await reader?.store.close();
  }

  async collect(): Promise<void> {
    const store = await this.world.open();
    const mostUnused = random.oneIn(2) ? 0 : 0.1;
    const report = await collectGarbage(store, { mostUnused, isDryRun: false, workers: 0 });
    await store.close();
    expect(report).toMatchObject({ damaged: [], missingChunks: 0 });
    this.tally.gcs++;
    this.tally.deleted += report.deleted.packs;
    this.tally.rewritten += report.rewritten.packs;
    this.tally.reprieved += report.reprieved.packs;
    this.tally.waiting += report.waiting.packs;
  }

  async end(): Promise<void> {
    while (this.open.length > 0) await this.commit();
    while (this.readers.length > 0) {
      const reader = this.readers.shift();
      await reader?.session.end();
      await reader?.store.close();
    }
  }

  async expectSound(): Promise<void> {
    await expectSound(this.world, { kept: [...this.committed.values()] });
  }
}

it(
  'loses nothing, in whatever order things happen',
  async () => {
    const model = new Model(await World.create(join(scratch, 'world')));
    const told = `VMAR_TEST_SEED=${SEED} VMAR_GC_STEPS=${STEPS}`;
    for (let step = 0; step < STEPS; step++) {
      try {
        await model.step();
        if (step % 8 === 7) await model.expectSound();
      } catch (error) {
        throw new Error(`step ${step}, ${told}: ${error instanceof Error ? error.message : error}`, { cause: error });
      }
    }
    await model.end();
    for (let time = 0; time < 3; time++) await model.collect();
    await model.expectSound();
    console.info(`${told}: ${JSON.stringify(model.tally)}`);
    expect(model.tally.deleted).toBeGreaterThan(0);
  },
  60_000 + STEPS * 2000,
);
