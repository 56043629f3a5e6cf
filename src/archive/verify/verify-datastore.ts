// SPDX-License-Identifier: MIT
// Verifies a datastore: every byte of every pack, manifest, sidecar and the superblock (which opening it has checked),
// and that everything that a backup needs is there.
//
// Guarantee: a byte that is not as it was written, or a chunk that is not to be had, gives a damage record; what is
// damaged is told by file and offset, with the backups and disks that need it. Nothing is changed.

import { statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { InterruptedError, VmarError } from '../../base/errors.js';
import type { HashName } from '../../../formats/vmar/hash.js';
import { createExecutor, type Executor } from '../../pipeline/executor.js';
import { formatBackupId, resolveBackup } from '../../store/backup-id.js';
import type { ContainerReader } from '../../store/container-reader.js';
import type { Datastore } from '../../store/datastore.js';
import { type PackId, packPath, sidecarPath } from '../../store/layout.js';
import { listManifests, type ManifestList, type StoredManifest } from '../../store/manifests.js';
import { readSidecar } from '../../store/sidecars.js';
import { DatastoreChunks, packIdBytes } from '../datastore-chunks.js';
import { type Checked, DamageList, nothingChecked, type VerifyReport } from './damage.js';
import { scanIds } from './scan-ids.js';
import { DamagedPlaces, verifyContainer } from './verify-container.js';
import { MapVerifier } from './verify-maps.js';

export interface VerifyOptions {
  /** Backups as users call them; all by default. Then only the packs that they need are read. */
  readonly backups?: readonly string[];
  /** 'quick' reads headers, tables, maps and manifests, and no frames of data. */
  readonly mode: 'full' | 'quick';
  /** Compute ids a second time by the reference implementation. */
  readonly portable: boolean;
  /** Threads; one a core by default, 0 for none. */
  readonly workers?: number;
  readonly signal?: AbortSignal;
  readonly onStart?: (totalBytes: number) => void;
  readonly onProgress?: (bytes: number) => void;
}

export async function verifyDatastore(store: Datastore, options: VerifyOptions): Promise<VerifyReport> {
  const session = await store.beginSession('read');
  const { hash, clusterSizeBytes } = store.superblock;
  const executor = createVerifyExecutor(options, hash, clusterSizeBytes);
  const chunks = await DatastoreChunks.open(store).catch(async (error: unknown) => {
    await executor.close();
    await session.end();
    throw error;
  });
  try {
    return await new DatastoreVerifier(store, chunks, executor, options).run();
  } catch (error) {
    throw options.signal?.aborted === true ? new InterruptedError() : error;
  } finally {
    await chunks.close();
    await executor.close();
    await session.end();
  }
}

/** One that hashes natively, or by the reference too. */
export function createVerifyExecutor(
  options: Pick<VerifyOptions, 'portable' | 'workers'>,
  hash: HashName,
  clusterSizeBytes: number,
): Executor {
  const implementation = options.portable ? 'reference' : 'native';
  const workers = options.workers ?? availableParallelism();
  return createExecutor({ workers, hash, level: 1, clusterSizeBytes, pools: [], implementation });
}

const PACKS_AT_ONCE = 4;

class DatastoreVerifier {
  readonly #store: Datastore;
  readonly #chunks: DatastoreChunks;
  readonly #executor: Executor;
  readonly #options: VerifyOptions;
  readonly #damage = new DamageList();
  readonly #checked: Checked = nothingChecked();
  readonly #damagedPlaces = new DamagedPlaces();

  constructor(store: Datastore, chunks: DatastoreChunks, executor: Executor, options: VerifyOptions) {
    this.#store = store;
    this.#chunks = chunks;
    this.#executor = executor;
    this.#options = options;
  }

  async run(): Promise<VerifyReport> {
    const list = await listManifests(this.#store.root);
    const wanted = this.#wanted(list);
    await this.#verifyPacks(await this.#packs(wanted));
    if (this.#options.backups === undefined) this.#recordManifests(list);
    const present = new Set(await this.#store.listPackIds());
    const maps = new MapVerifier(this.#chunks, this.#damagedPlaces, this.#damage, this.#checked);
    for (const entry of wanted) {
      this.#options.signal?.throwIfAborted();
      await this.#verifyBackup(maps, entry, present);
    }
    return { checked: this.#checked, damage: this.#damage.records };
  }

  #wanted(list: ManifestList): StoredManifest[] {
    const names = this.#options.backups;
    if (names === undefined) return list.entries;
    const refs = [...list.entries, ...list.damaged].map((entry) => entry.ref);
    const wanted = new Set(names.map((name) => formatBackupId(resolveBackup(name, refs))));
    for (const { ref, path, error } of list.damaged) {
      if (wanted.has(formatBackupId(ref))) this.#recordManifest(formatBackupId(ref), path, error);
    }
    return list.entries.filter((entry) => wanted.has(formatBackupId(entry.ref)));
  }

  #recordManifests(list: ManifestList): void {
    for (const { ref, path, error } of list.damaged) this.#recordManifest(formatBackupId(ref), path, error);
  }

  #recordManifest(backup: string, path: string, error: VmarError): void {
    const offsetBytes = error.offsetBytes ?? 0;
    const index = this.#damage.add({ file: path, offsetBytes, lengthBytes: 0, kind: 'manifest', problem: error.message });
    this.#damage.touch(index, backup, undefined);
  }

  /** All packs, or those that the wanted backups name and that are there. */
  async #packs(wanted: readonly StoredManifest[]): Promise<PackId[]> {
    const present = (await this.#store.listPackIds()).sort();
    if (this.#options.backups === undefined) return present;
    const needed = new Set(wanted.flatMap((entry) => entry.manifest.packs));
    return present.filter((packId) => needed.has(packId));
  }

  async #verifyPacks(packIds: readonly PackId[]): Promise<void> {
    const sizes = packIds.map((packId) => sizeOf(packPath(this.#store.root, packId)));
    this.#options.onStart?.(sizes.reduce((sum, size) => sum + size, 0));
    const queue = [...packIds];
    const lane = async (): Promise<void> => {
      for (let packId = queue.shift(); packId !== undefined; packId = queue.shift()) await this.#verifyPack(packId);
    };
    await Promise.all(Array.from({ length: PACKS_AT_ONCE }, lane));
  }

  async #verifyPack(packId: PackId): Promise<void> {
    this.#options.signal?.throwIfAborted();
    this.#checked.packs++;
    const { mode, portable, signal, onProgress } = this.#options;
    const damage = this.#damage;
    let reader: ContainerReader;
    try {
      reader = this.#chunks.packs.open(packIdBytes(packId));
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      const file = packPath(this.#store.root, packId);
      const ids = scanIds(file, packIdBytes(packId), this.#store.superblock.hash);
      const offsetBytes = error.offsetBytes ?? 0;
      damage.add({ file, offsetBytes, lengthBytes: 0, kind: 'container', problem: error.message }, ids);
      return;
    }
    const implementation = portable ? ('reference' as const) : ('native' as const);
    const check = { reader, executor: this.#executor, mode, implementation, damage, checked: this.#checked };
    const hooks = { ...(signal === undefined ? {} : { signal }), ...(onProgress === undefined ? {} : { onProgress }) };
    await verifyContainer({ ...check, ...hooks }, this.#damagedPlaces);
  }

  async #verifyBackup(maps: MapVerifier, entry: StoredManifest, present: ReadonlySet<PackId>): Promise<void> {
    const backup = formatBackupId(entry.ref);
    this.#checked.backups++;
    // The manifest's copy in the backup's last pack.
    for (const index of this.#damage.of(entry.digest)) this.#damage.touch(index, backup, undefined);
    await this.#verifySidecar(entry, backup);
    const goneId = entry.manifest.packs.find((packId) => !present.has(packId));
    const missingFile = goneId === undefined ? entry.path : packPath(this.#store.root, goneId);
    for (const disk of entry.manifest.disks) {
      await maps.verifyDisk({ backup, missingFile, disk, fanout: entry.manifest.mapFanout });
    }
  }

  async #verifySidecar(entry: StoredManifest, backup: string): Promise<void> {
    try {
      await readSidecar(this.#store.root, entry.ref, entry.digest);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      const file = sidecarPath(this.#store.root, entry.ref);
      const offsetBytes = error.offsetBytes ?? 0;
      const index = this.#damage.add({ file, offsetBytes, lengthBytes: 0, kind: 'sidecar', problem: error.message });
      this.#damage.touch(index, backup, undefined);
    }
  }
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
