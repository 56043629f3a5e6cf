// SPDX-License-Identifier: MIT
// Verifies a datastore: every byte of every pack, manifest, sidecar and the superblock (which opening it has checked),
// and that everything that a backup needs is there.
//
// Guarantee: a byte that is not as it was written, or a chunk that is not to be had, gives a damage record; what is
// damaged is told by file and offset, with the backups and disks that need it. Nothing is changed but what verify itself
// remembers (verify-memory.ts).

import { availableParallelism } from 'node:os';
import type { HashName } from '../../../formats/vmar/hash.js';
import { toHex } from '../../base/bytes.js';
import { FailedError, InterruptedError, NotFoundError, VmarError } from '../../base/errors.js';
import { createExecutor, type Executor } from '../../pipeline/executor.js';
import { formatBackupId, resolveBackup } from '../../store/backup-id.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { splitTouched } from '../../store/damage-list.js';
import type { Datastore } from '../../store/datastore.js';
import type { FossilRecord } from '../../store/gc/fossil-record.js';
import { type PackId, packPath } from '../../store/layout.js';
import { type DamagedManifest, listManifests, type ManifestList, type StoredManifest } from '../../store/manifests.js';
import type { Session } from '../../store/session.js';
import { DatastoreChunks } from '../datastore-chunks.js';
import { packIdBytes } from '../pack-id-bytes.js';
import { takingTurns } from '../turns.js';
import { type Checked, DamageList, nothingChecked, type VerifyReport } from './damage.js';
import { DamageEntries } from './damage-entries.js';
import { DamagedPlaces } from './damaged-places.js';
import { fileBytes, rangeInContainer, wholeFile } from './damaged-range.js';
import type { EnsureChecked } from './good-places.js';
import { MissingPacks } from './missing-packs.js';
import { scanIds } from './scan-ids.js';
import { checkState, recordLost, recordShut } from './state-checks.js';
import { BackupsVerifier } from './verify-backups.js';
import { verifyContainer } from './verify-container.js';
import { VerifyMemory } from './verify-memory.js';
import {
  Budget,
  claimPack,
  dueBackups,
  duePacks,
  FINDING_SHARE,
  PACKS_SHARE,
  type ScheduleReport,
  type VerifySchedule,
} from './verify-schedule.js';

export interface VerifyOptions {
  /** Backups as users call them; all by default. Then only the packs that they need are read. */
  readonly backups?: readonly string[];
  /** 'quick' reads headers, tables, maps and manifests, and no frames of data. */
  readonly mode: 'full' | 'quick';
  /** Compute ids a second time by the reference implementation. */
  readonly portable: boolean;
  /** Only what is due, and for a while; by default everything. */
  readonly schedule?: VerifySchedule;
  /** Whether what is found is remembered in the datastore; true by default. */
  readonly remembers?: boolean;
  /** Threads; one a core by default, 0 for none. */
  readonly workers?: number;
  readonly signal?: AbortSignal;
  readonly onStart?: (totalBytes: number) => void;
  readonly onProgress?: (bytes: number) => void;
}

/** @throws FailedError if something is of a newer version or cannot be read for another reason that is no damage. */
export async function verifyDatastore(
  store: Datastore,
  options: VerifyOptions,
): Promise<VerifyReport & { readonly schedule?: ScheduleReport }> {
  const session = await store.beginSession('read');
  const { hash, clusterSizeBytes } = store.superblock;
  const executor = createVerifyExecutor(options, hash, clusterSizeBytes);
  const chunks = await DatastoreChunks.openToVerify(store).catch(async (error: unknown) => {
    await executor.close();
    await session.end();
    throw error;
  });
  try {
    return await new DatastoreVerifier(
      await begin(store, session, chunks, options.remembers !== false),
      executor,
      options,
    ).run();
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

/** What a verify begins with. */
interface Beginning {
  readonly store: Datastore;
  readonly chunks: DatastoreChunks;
  readonly list: ManifestList;
  readonly present: readonly PackId[];
  readonly damage: DamageList;
  readonly damagedPlaces: DamagedPlaces;
  /** Records of what is not damaged, but of a newer version, or not for us to read. */
  readonly refused: Map<number, FailedError>;
  readonly memory: VerifyMemory;
  readonly successors: FossilRecord['successors'];
}

async function begin(
  store: Datastore,
  session: Session,
  chunks: DatastoreChunks,
  remembers: boolean,
): Promise<Beginning> {
  const { root } = store;
  const damage = new DamageList();
  const damagedPlaces = new DamagedPlaces();
  const refused = new Map<number, FailedError>();
  const list = await listManifests(root, undefined, { isLenient: true });
  recordLost({ damage, refused }, list.lost);
  const { ids, shut } = await store.listPacksSeen();
  recordShut(damage, shut.values());
  const present = ids.sort();
  // Before they are written anew.
  const { successors } = await checkState({ root, damage, refused });
  const entries = new DamageEntries(root, chunks.packs, damage, damagedPlaces);
  const scope = { list, present: new Set(present), successors, entries, remembers };
  const memory = await VerifyMemory.open(store, session, scope);
  return { store, chunks, list, present, damage, damagedPlaces, refused, memory, successors };
}

class DatastoreVerifier {
  readonly #store: Datastore;
  readonly #chunks: DatastoreChunks;
  readonly #executor: Executor;
  readonly #options: VerifyOptions;
  readonly #list: ManifestList;
  readonly #present: readonly PackId[];
  readonly #damage: DamageList;
  readonly #checked: Checked = nothingChecked();
  readonly #damagedPlaces: DamagedPlaces;
  readonly #verified = new Set<PackId>();
  readonly #refused: Map<number, FailedError>;
  readonly #missingPacks: MissingPacks;
  readonly #memory: VerifyMemory;
  readonly #backups: BackupsVerifier;

  constructor(beginning: Beginning, executor: Executor, options: VerifyOptions) {
    const { store, chunks, list, present, damage, damagedPlaces, refused, memory } = beginning;
    this.#store = store;
    this.#chunks = chunks;
    this.#list = list;
    this.#present = present;
    this.#damage = damage;
    this.#damagedPlaces = damagedPlaces;
    this.#refused = refused;
    this.#memory = memory;
    this.#executor = executor;
    this.#options = options;
    this.#missingPacks = new MissingPacks(store.root, damage, new Set(present));
    this.#backups = new BackupsVerifier({
      ...{ root: store.root, source: chunks, successors: beginning.successors, damage, damagedPlaces },
      ...{ missingPacks: this.#missingPacks, checked: this.#checked, history: memory.history },
      takeTurn: takingTurns(options.signal),
      refuse: (record, error) => this.#refuse(record, error),
    });
  }

  async run(): Promise<VerifyReport & { readonly schedule?: ScheduleReport }> {
    const list = this.#list;
    const wanted = this.#wanted(list);
    for (const damaged of wanted.damaged) this.#recordManifest(damaged);
    try {
      const packs = this.#packsOf(wanted.entries, this.#present);
      const { schedule } = this.#options;
      if (schedule !== undefined) return await this.#runSchedule(list, wanted, packs, schedule);
      await this.#verifyPacks(packs);
      for (const entry of wanted.entries) await this.#backups.verifySidecar(entry);
      const ensureChecked: EnsureChecked = async ({ header }) => await this.#verifyPack(toHex(header.containerId));
      await this.#backups.follow(wanted.entries, ensureChecked);
      if (this.#damage.records.length > 0) await this.#backups.nameOthers(list.entries, wanted.entries);
      await this.#memory.finish({ isAll: this.#options.backups === undefined, isNamed: true });
      return this.#report();
    } catch (error) {
      await this.#memory.save();
      throw error;
    }
  }

  /** What is due, the longest unread first, until the budget ends; one pack and one backup at least. */
  async #runSchedule(
    list: ManifestList,
    wanted: Pick<ManifestList, 'entries'>,
    packs: readonly PackId[],
    schedule: VerifySchedule,
  ): Promise<VerifyReport & { readonly schedule: ScheduleReport }> {
    const { history, known } = this.#memory;
    const budget = new Budget(schedule.budgetMillis);
    const now = Date.now();
    const due = duePacks(packs, schedule, history, known, now);
    const backups = dueBackups(wanted.entries, schedule, history, now);
    for (const entry of wanted.entries) await this.#backups.verifySidecar(entry);
    this.#options.onStart?.(this.#sizeOf(due));
    await this.#verifyDue(due, () => budget.isReached(backups.length > 0 ? PACKS_SHARE : 1));
    const isDamaged = (): boolean => !known.isEmpty || this.#damage.records.length > 0;
    const isFound = (): boolean => budget.isReached(isDamaged() ? FINDING_SHARE : 1);
    const followed = await this.#backups.follow(backups, async () => {}, isFound);
    await this.#verifyDue(due, isFound);
    this.#recallDamage();
    const namesLeft = await this.#nameOthers(list.entries, followed, () => budget.isReached());
    await this.#memory.finish({ isAll: followed.length === list.entries.length, isNamed: namesLeft === 0 });
    const left = due.filter((packId) => !this.#verified.has(packId));
    const times = left.map((packId) => history.packReadMillis(packId));
    return {
      ...this.#report(),
      schedule: {
        ...{ packsRead: due.length - left.length, packsLeft: left.length, bytesLeft: this.#sizeOf(left) },
        ...{ backupsLeft: backups.length - followed.length, namesLeft },
        isBudgetReached: left.length > 0 || followed.length < backups.length || namesLeft > 0,
        oldestMillis: times.includes(undefined) ? undefined : times.reduce((a, b) => Math.min(a!, b!), times[0]),
      },
    };
  }

  /** How many were not asked whether the damage touches them. */
  async #nameOthers(
    all: readonly StoredManifest[],
    followed: readonly StoredManifest[],
    isOver: () => boolean,
  ): Promise<number> {
    if (this.#damage.records.length === 0) return 0;
    const { known } = this.#memory;
    return await this.#backups.nameOthers(all, followed, isOver, (backup) => known.isDamaged(backup));
  }

  /** Passes over packs that another verifier reads just now, or has read meanwhile. */
  async #verifyDue(due: readonly PackId[], isOver: () => boolean): Promise<void> {
    const queue = due.filter((packId) => !this.#verified.has(packId));
    const lane = async (): Promise<void> => {
      for (let packId = queue.shift(); packId !== undefined; packId = queue.shift()) {
        if (isOver() && this.#checked.packs > 0) return;
        const release = claimPack(packPath(this.#store.root, packId));
        if (release === undefined) continue;
        try {
          if (await this.#memory.isReadByOthers(packId)) this.#verified.add(packId);
          else await this.#verifyPack(packId);
        } finally {
          release();
        }
      }
    };
    await Promise.all(Array.from({ length: PACKS_AT_ONCE }, lane));
  }

  /** What was known to be damaged, and was not read again: it is told as such. */
  #recallDamage(): void {
    for (const { packId, problem, touched, sinceMillis } of this.#memory.known.packs.values()) {
      if (this.#verified.has(packId) || !this.#memory.isThere(packId)) continue;
      const file = packPath(this.#store.root, packId);
      const since = `known since ${new Date(sinceMillis).toISOString().slice(0, 10)}, and not read again`;
      const place = { file, offsetBytes: 0, lengthBytes: 0, kind: 'known' as const, problem: `${problem} (${since})` };
      const record = this.#damage.add(place);
      for (const name of touched) {
        const [backup, disk] = splitTouched(name);
        this.#damage.touch(record, backup, disk);
      }
    }
  }

  #wanted(list: ManifestList): Pick<ManifestList, 'entries' | 'damaged'> {
    const names = this.#options.backups;
    if (names === undefined) return list;
    const refs = [...list.entries, ...list.damaged].map((entry) => entry.ref);
    const wanted = new Set(names.map((name) => formatBackupId(resolveBackup(name, refs))));
    const isWanted = ({ ref }: StoredManifest | DamagedManifest): boolean => wanted.has(formatBackupId(ref));
    return { entries: list.entries.filter(isWanted), damaged: list.damaged.filter(isWanted) };
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
    this.#refuse(record, error);
  }

  #refuse(record: number, error: unknown): void {
    if (error instanceof FailedError) this.#refused.set(record, error);
  }

  /** All packs, or those that the wanted backups name and that are there. */
  #packsOf(wanted: readonly StoredManifest[], present: readonly PackId[]): readonly PackId[] {
    if (this.#options.backups === undefined) return present;
    const needed = new Set(wanted.flatMap((entry) => entry.manifest.packs));
    return present.filter((packId) => needed.has(packId));
  }

  async #verifyPacks(packIds: readonly PackId[]): Promise<void> {
    this.#options.onStart?.(this.#sizeOf(packIds));
    const queue = [...packIds];
    const lane = async (): Promise<void> => {
      for (let packId = queue.shift(); packId !== undefined; packId = queue.shift()) await this.#verifyPack(packId);
    };
    await Promise.all(Array.from({ length: PACKS_AT_ONCE }, lane));
  }

  #sizeOf(packIds: readonly PackId[]): number {
    return packIds.reduce((sum, packId) => sum + fileBytes(packPath(this.#store.root, packId)), 0);
  }

  async #verifyPack(packId: PackId): Promise<void> {
    if (this.#verified.has(packId)) return;
    const start = Date.now();
    this.#verified.add(packId);
    this.#options.signal?.throwIfAborted();
    this.#checked.packs++;
    const { mode, portable, signal, onProgress } = this.#options;
    const reader = this.#open(packId);
    if (reader !== undefined) {
      await verifyContainer({
        ...{ reader, mode, executor: this.#executor, implementation: portable ? 'reference' : 'native' },
        ...{ damage: this.#damage, damagedPlaces: this.#damagedPlaces, checked: this.#checked },
        ...(signal === undefined ? {} : { signal }),
        ...(onProgress === undefined ? {} : { onProgress }),
      });
    }
    if (mode === 'full') await this.#memory.packRead(packId, start);
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
      this.#refuse(record, error);
      return undefined;
    }
  }
}
