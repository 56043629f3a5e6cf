// SPDX-License-Identifier: MIT
// A small world to back up: a datastore in a temporary directory, disks in memory, backups made and read in this process.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ArchiveSink } from '#vmar/src/archive/archive-sink.js';
import { openDatastoreVault } from '#vmar/src/archive/datastore-vault.js';
import { createMachine, type Machine } from '#vmar/src/archive/machine.js';
import { openBackup } from '#vmar/src/archive/open-backup.js';
import { type RestoreSummary, restoreBackup } from '#vmar/src/archive/restore.js';
import type { Vault } from '#vmar/src/archive/vault.js';
import type { VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { verifyDatastore } from '#vmar/src/archive/verify/verify-datastore.js';
import type { BackupDescription, DumpResult, DumpSink } from '#vmar/src/plugin-api.js';
import { ZERO } from '#vmar/src/plugin-api.js';
import { type Datastore, openDatastore } from '#vmar/src/store/datastore.js';
import type { StoreFs } from '#vmar/src/store/fs.js';
import { initDatastore } from '#vmar/src/store/init.js';

export const CLUSTER = 65536;

export interface WorldOptions {
  readonly hash?: 'blake3' | 'sha256';
  readonly clusterSizeBytes?: number;
  readonly mapFanout?: number;
  readonly fs?: StoreFs;
  /** 0 by default: everything in this thread. */
  readonly workers?: number;
}

export interface MemoryDisk {
  readonly name: string;
  readonly content: Uint8Array;
}

export class World {
  readonly root: string;
  readonly cacheDir: string;
  readonly base: string;
  readonly options: WorldOptions;
  #restores = 0;

  private constructor(base: string, options: WorldOptions) {
    this.base = base;
    this.root = join(base, 'store');
    this.cacheDir = join(base, 'cache');
    this.options = options;
  }

  static async create(base: string, options: WorldOptions = {}): Promise<World> {
    const world = new World(base, options);
    mkdirSync(world.cacheDir, { recursive: true });
    await initDatastore(world.root, {
      clusterSizeBytes: options.clusterSizeBytes ?? CLUSTER,
      hash: options.hash ?? 'blake3',
      mapFanout: options.mapFanout ?? 128,
      timeSeconds: 1_760_000_000,
      createdBy: 'test',
    });
    return world;
  }

  /** The same datastore, seen through another file system or from another place. */
  static at(base: string, options: WorldOptions = {}): World {
    return new World(base, options);
  }

  async open(fs: StoreFs | undefined = this.options.fs): Promise<Datastore> {
    return await openDatastore(this.root, { cacheDir: this.cacheDir, ...(fs === undefined ? {} : { fs }) });
  }

  machine(): Machine {
    return createMachine({
      hash: this.options.hash ?? 'blake3',
      level: 1,
      clusterSizeBytes: this.options.clusterSizeBytes ?? CLUSTER,
      workers: this.options.workers ?? 0,
    });
  }

  async backup(guestId: string, disks: readonly MemoryDisk[], timeSeconds: number): Promise<DumpResult> {
    const store = await this.open();
    const machine = this.machine();
    try {
      const vault = await openDatastoreVault(store, { namespace: '', guestId }, { waitSeconds: 0 });
      return await dumpInto(vault, machine, describe(guestId, disks, timeSeconds), disks);
    } finally {
      await machine.close();
      await store.close();
    }
  }

  async verify(mode: 'full' | 'quick' = 'full'): Promise<VerifyReport> {
    const store = await this.open();
    try {
      const workers = this.options.workers ?? 0;
      return await verifyDatastore(store, { mode, portable: false, workers, remembers: false });
    } finally {
      await store.close();
    }
  }

  async restore(
    name: string,
    disk: string,
    allowDamaged = false,
  ): Promise<{ content: Buffer; summary: RestoreSummary }> {
    const store = await this.open();
    const machine = this.machine();
    try {
      const backup = await openBackup(store, name);
      const target = join(this.base, `restored-${this.#restores++}.raw`);
      try {
        const options = { executor: machine.executor, overwrite: false, targetIsZero: false, allowDamaged };
        const summary = await restoreBackup(backup, [{ disk, target }], options);
        return { content: readFileSync(target), summary };
      } finally {
        await backup.close();
      }
    } finally {
      await machine.close();
      await store.close();
    }
  }
}

export function describe(guestId: string, disks: readonly MemoryDisk[], timeSeconds: number): BackupDescription {
  return {
    namespace: '',
    guestId,
    timeSeconds,
    source: 'image',
    consistency: 'offline',
    disks: disks.map(({ name, content }) => ({ name, kind: 'disk', sizeBytes: content.byteLength })),
    configs: [],
  };
}

/** Dumps whole disks cluster by cluster, slots as large as the sink has them. */
export async function dumpInto(
  vault: Vault,
  machine: Machine,
  description: BackupDescription,
  disks: readonly MemoryDisk[],
): Promise<DumpResult> {
  const sink = new ArchiveSink(vault, machine);
  try {
    await sink.begin(description);
    for (const [index, { content }] of disks.entries()) await dumpDisk(sink, index, content);
    return await sink.finish();
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

export async function dumpDisk(sink: DumpSink, index: number, content: Uint8Array): Promise<void> {
  for (let at = 0; at < content.byteLength; at += sink.slotBytes) {
    const piece = content.subarray(at, at + sink.slotBytes);
    const cluster = at / sink.clusterSizeBytes;
    if (piece.byteLength === sink.clusterSizeBytes && piece.every((byte) => byte === 0)) {
      await sink.dump(index, cluster, ZERO);
      continue;
    }
    const slot = await sink.lease();
    slot.set(piece);
    await sink.dump(index, cluster, slot.subarray(0, piece.byteLength));
  }
}
