// SPDX-License-Identifier: MIT
// Verifies a datastore: every byte of every pack, manifest, sidecar and the superblock (which opening it has checked),
// and that everything that a backup needs is there.
//
// Guarantee: a byte that is not as it was written, or a chunk that is not to be had, gives a damage record; what is
// damaged is told by file and offset, with the backups and disks that need it. Nothing is changed.

import { availableParallelism } from 'node:os';
import type { HashName } from '../../../formats/vmar/hash.js';
import { toHex } from '../../base/bytes.js';
import { FailedError, InterruptedError, NotFoundError, VmarError } from '../../base/errors.js';
import { createExecutor, type Executor } from '../../pipeline/executor.js';
import { formatBackupId, resolveBackup } from '../../store/backup-id.js';
import type { ContainerReader } from '../../store/container-reader.js';
import type { Datastore } from '../../store/datastore.js';
import { readRecord, recordPath } from '../../store/gc/pack-state.js';
import { type PackId, packPath, sidecarPath } from '../../store/layout.js';
import { type DamagedManifest, listManifests, type ManifestList, type StoredManifest } from '../../store/manifests.js';
import { readSidecar } from '../../store/sidecars.js';
import { DatastoreChunks, packIdBytes } from '../datastore-chunks.js';
import { type Checked, DamageList, nothingChecked, type VerifyReport } from './damage.js';
import { DamagedPlaces } from './damaged-places.js';
import { fileBytes, rangeInContainer, wholeFile } from './damaged-range.js';
import { GoodPlaces } from './good-places.js';
import { MissingPacks } from './missing-packs.js';
import { scanIds } from './scan-ids.js';
import { verifyContainer } from './verify-container.js';
import { MapVerifier } from './verify-maps.js';
import { verifyReports } from './verify-reports.js';

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

/** @throws FailedError if something is of a newer version or cannot be read for another reason that is no damage. */
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
  const executor = createExecutor({ workers, hash, level: 1, clusterSizeBytes, pools: [], implementation });
  executor.warmUp();
  return executor;
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
  readonly #verified = new Set<PackId>();
  /** Records of what is not damaged, but of a newer version, or not for us to read. */
  readonly #refused = new Map<number, FailedError>();
  #missingPacks: MissingPacks;

  constructor(store: Datastore, chunks: DatastoreChunks, executor: Executor, options: VerifyOptions) {
    this.#store = store;
    this.#chunks = chunks;
    this.#executor = executor;
    this.#options = options;
    this.#missingPacks = new MissingPacks(store.root, this.#damage, new Set());
  }

  async run(): Promise<VerifyReport> {
    const list = await listManifests(this.#store.root);
    const wanted = this.#wanted(list);
    const present = (await this.#store.listPackIds()).sort();
    this.#missingPacks = new MissingPacks(this.#store.root, this.#damage, new Set(present));
    await this.#verifyPacks(this.#packsOf(wanted.entries, present));
    for (const damaged of wanted.damaged) this.#recordManifest(damaged);
    await this.#verifyFossils();
    for (const [record, error] of await verifyReports(this.#store.root, this.#damage)) {
      if (error instanceof FailedError) this.#refused.set(record, error);
    }
    const ensureChecked = async ({ header }: ContainerReader) => await this.#verifyPack(toHex(header.containerId));
    const places = new GoodPlaces(this.#chunks, this.#damage, this.#damagedPlaces, ensureChecked);
    const maps = new MapVerifier(this.#chunks, places, this.#damage, this.#checked);
    for (const entry of wanted.entries) {
      this.#options.signal?.throwIfAborted();
      await this.#verifyBackup(maps, entry);
    }
    if (this.#damage.records.length > 0) await this.#nameOthers(list, wanted);
    return this.#report();
  }

  #wanted(list: ManifestList): Pick<ManifestList, 'entries' | 'damaged'> {
    const names = this.#options.backups;
    if (names === undefined) return list;
    const refs = [...list.entries, ...list.damaged].map((entry) => entry.ref);
    const wanted = new Set(names.map((name) => formatBackupId(resolveBackup(name, refs))));
    const isWanted = ({ ref }: StoredManifest | DamagedManifest): boolean => wanted.has(formatBackupId(ref));
    return { entries: list.entries.filter(isWanted), damaged: list.damaged.filter(isWanted) };
  }

  /** What was found in packs of the wanted backups may concern others, and they are named too. */
  async #nameOthers(list: ManifestList, wanted: Pick<ManifestList, 'entries'>): Promise<void> {
    const places = new GoodPlaces(this.#chunks, this.#damage, this.#damagedPlaces, async () => {});
    const maps = new MapVerifier(this.#chunks, places, this.#damage, this.#checked, 'name');
    const seen = new Set(wanted.entries);
    for (const entry of list.entries) if (!seen.has(entry)) await this.#verifyMaps(maps, entry);
  }

  /** What is only of a newer version is told as such, unless there is damage beside it. */
  #report(): VerifyReport {
    const [refusal] = this.#refused.values();
    if (refusal !== undefined && this.#refused.size === this.#damage.records.length) throw refusal;
    return { checked: this.#checked, damage: this.#damage.records };
  }

  #recordManifest({ ref, path, error }: DamagedManifest): void {
    const record = this.#damage.add({ file: path, ...wholeFile(path), kind: 'manifest', problem: error.message });
    this.#damage.touch(record, formatBackupId(ref), undefined);
    if (error instanceof FailedError) this.#refused.set(record, error);
  }

  /** No backup needs gc's record; but while it is damaged, backups store everything anew. */
  async #verifyFossils(): Promise<void> {
    try {
      await readRecord(this.#store.root);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      const file = recordPath(this.#store.root);
      const record = this.#damage.add({ file, ...wholeFile(file), kind: 'fossils', problem: error.message });
      if (error instanceof FailedError) this.#refused.set(record, error);
    }
  }

  /** All packs, or those that the wanted backups name and that are there. */
  #packsOf(wanted: readonly StoredManifest[], present: readonly PackId[]): readonly PackId[] {
    if (this.#options.backups === undefined) return present;
    const needed = new Set(wanted.flatMap((entry) => entry.manifest.packs));
    return present.filter((packId) => needed.has(packId));
  }

  async #verifyPacks(packIds: readonly PackId[]): Promise<void> {
    const sizes = packIds.map((packId) => fileBytes(packPath(this.#store.root, packId)));
    this.#options.onStart?.(sizes.reduce((sum, size) => sum + size, 0));
    const queue = [...packIds];
    const lane = async (): Promise<void> => {
      for (let packId = queue.shift(); packId !== undefined; packId = queue.shift()) await this.#verifyPack(packId);
    };
    await Promise.all(Array.from({ length: PACKS_AT_ONCE }, lane));
  }

  async #verifyPack(packId: PackId): Promise<void> {
    if (this.#verified.has(packId)) return;
    this.#verified.add(packId);
    this.#options.signal?.throwIfAborted();
    this.#checked.packs++;
    const { mode, portable, signal, onProgress } = this.#options;
    const reader = this.#open(packId);
    if (reader === undefined) return;
    await verifyContainer({
      ...{ reader, mode, executor: this.#executor, implementation: portable ? 'reference' : 'native' },
      ...{ damage: this.#damage, damagedPlaces: this.#damagedPlaces, checked: this.#checked },
      ...(signal === undefined ? {} : { signal }),
      ...(onProgress === undefined ? {} : { onProgress }),
    });
  }

  #open(packId: PackId): ContainerReader | undefined {
    try {
      return this.#chunks.packs.open(packIdBytes(packId));
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // gc deleted it meanwhile; if it is missed, the maps tell.
      if (error instanceof NotFoundError) return undefined;
      const file = packPath(this.#store.root, packId);
      const ids = scanIds(file, packIdBytes(packId), this.#store.superblock.hash);
      const place = { file, ...rangeInContainer(error) };
      const record = this.#damage.add({ ...place, kind: 'container', problem: error.message }, ids);
      this.#missingPacks.setUnreadable(packId, record);
      if (error instanceof FailedError) this.#refused.set(record, error);
      return undefined;
    }
  }

  async #verifyBackup(maps: MapVerifier, entry: StoredManifest): Promise<void> {
    this.#checked.backups++;
    await this.#verifySidecar(entry, formatBackupId(entry.ref));
    await this.#verifyMaps(maps, entry);
  }

  async #verifyMaps(maps: MapVerifier, entry: StoredManifest): Promise<void> {
    const { manifest, digest, path: file } = entry;
    const backup = formatBackupId(entry.ref);
    // The manifest's copy in the backup's last pack.
    for (const record of this.#damage.of(digest)) this.#damage.touch(record, backup, undefined);
    const suspects = (): readonly number[] => this.#missingPacks.suspects(manifest.packs);
    for (const disk of manifest.disks) {
      await maps.verifyDisk({ backup, file, disk, fanout: manifest.mapFanout, suspects });
    }
  }

  async #verifySidecar(entry: StoredManifest, backup: string): Promise<void> {
    try {
      await readSidecar(this.#store.root, entry.ref, entry.digest);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      const file = sidecarPath(this.#store.root, entry.ref);
      const record = this.#damage.add({ file, ...wholeFile(file), kind: 'sidecar', problem: error.message });
      this.#damage.touch(record, backup, undefined);
      if (error instanceof FailedError) this.#refused.set(record, error);
    }
  }
}
