// SPDX-License-Identifier: MIT
// The vault that is a datastore.
//
// Guarantees (docs/ORDERING.md): a chunk counts as known only if the table of a pack that is there has it; packs are
// durable under their names before the manifest is; the manifest appears in one step, and only after every pack that it
// rests on was looked for once more.

import { existsSync } from 'node:fs';
import type { HashName } from '../../formats/vmar/hash.js';
import { encodeManifest, type Manifest } from '../../formats/vmar/manifest.js';
import type { Sidecar } from '../../formats/vmar/sidecar.js';
import { toHex } from '../base/bytes.js';
import { FailedError, VmarError } from '../base/errors.js';
import type { BackupDescription } from '../plugin-api.js';
import { type BackupRef, formatBackupId, type GuestRef } from '../store/backup-id.js';
import type { Datastore } from '../store/datastore.js';
import { PackState } from '../store/gc/pack-state.js';
import { timeAfter } from '../store/later-time.js';
import { directoryPath, manifestPath, type PackId, packDirectory, packPath } from '../store/layout.js';
import { type Lock, lockGuest } from '../store/locks.js';
import { commitManifest, latestBackup, readManifest } from '../store/manifests.js';
import { PackStream } from '../store/pack-stream.js';
import { makingRoom, type Session } from '../store/session.js';
import { writeSidecar } from '../store/sidecars.js';
import { DatastoreChunks } from './datastore-chunks.js';
import type { FrameOutput } from './frame-builder.js';
import { KnownChunks } from './known-chunks.js';
import { manifestPart } from './manifest-part.js';
import type { MapReader } from './map-reader.js';
import { PackRoom } from './pack-room.js';
import { type Parent, parentMaps } from './parent.js';
import { ParentDamage } from './parent-damage.js';
import type { ManifestDraft, Vault, VaultBegin } from './vault.js';
import { WRITER_NAME } from './writer-name.js';

export interface DatastoreVaultOptions {
  /** How long to wait for the guest's lock; 0 not at all. */
  readonly waitSeconds: number;
  readonly signal?: AbortSignal;
  /** 16 bytes that name this host. */
  readonly writerId?: Uint8Array;
  /** Has the last word on the manifest, but for the guest and the time. */
  readonly revise?: (manifest: Manifest) => Manifest;
  /** Looks at each pack when it is whole and durable, before it gets its name; may refuse it. */
  readonly inspect?: (path: string) => Promise<void>;
}

/** An earlier or later backup of the guest, as what a new one is compared with. */
export interface Relative {
  /** For each disk of the new backup; undefined where there is no such disk to compare with. */
  readonly maps: readonly (MapReader | undefined)[];
  /** Says that chunks or pages of it stand in the new maps. */
  note(): void;
}

/**
 * Takes the guest's lock and begins a session; both are given up by `commit` or `abort`.
 * @throws BusyError if another process holds the guest.
 */
export async function openDatastoreVault(
  store: Datastore,
  guest: Pick<GuestRef, 'namespace' | 'guestId'>,
  options: DatastoreVaultOptions,
): Promise<DatastoreVault> {
  const ref: GuestRef = { namespace: guest.namespace, guestType: 'vm', guestId: guest.guestId };
  const { waitSeconds, signal } = options;
  store.checkWritable();
  // The lock first: a session that only waits would hold up whoever waits for sessions to end.
  const wait = signal === undefined ? { waitSeconds } : { waitSeconds, signal };
  const lock = await makingRoom(store, () => lockGuest(store.fs, store.root, ref, wait));
  let session: Session | undefined;
  try {
    session = await store.beginSession('backup');
    // After the session has its lock, and before the index: what gc wrote anew is in the index then.
    const state = await PackState.read(store.root, store.log);
    const chunks = await DatastoreChunks.open(store, session);
    return new DatastoreVault(store, session, lock, ref, chunks, state, options);
  } catch (error) {
    await lock.release();
    await session?.end();
    throw error;
  }
}

export class DatastoreVault implements Vault {
  readonly hash: HashName;
  readonly clusterSizeBytes: number;
  readonly fanout: number;
  readonly scratchDirectory: string;
  readonly dataFrames: FrameOutput;
  readonly mapFrames: FrameOutput;
  readonly #store: Datastore;
  readonly #session: Session;
  readonly #lock: Lock;
  readonly #guest: GuestRef;
  readonly #chunks: DatastoreChunks;
  readonly #state: PackState;
  readonly #known: KnownChunks;
  readonly #writerId: Uint8Array;
  readonly #revise: (manifest: Manifest) => Manifest;
  readonly #dataPacks: PackStream;
  readonly #mapPacks: PackStream;
  #parent: Parent | undefined;
  #beside: Pick<Sidecar, 'labels' | 'notes' | 'isProtected'> = { labels: new Map(), notes: '', isProtected: false };
  /** The parent, and other backups of the guest, whose chunks stand in the new maps. */
  readonly #used = new Set<Parent>();
  /** Of each of these that was looked at. */
  readonly #damage: ParentDamage[] = [];

  /** @internal See openDatastoreVault. */
  constructor(
    store: Datastore,
    session: Session,
    lock: Lock,
    guest: GuestRef,
    chunks: DatastoreChunks,
    state: PackState,
    { writerId = new Uint8Array(16), revise = (manifest) => manifest, inspect }: DatastoreVaultOptions,
  ) {
    this.#store = store;
    this.#session = session;
    this.#lock = lock;
    this.#guest = guest;
    this.#chunks = chunks;
    this.#state = state;
    this.#known = new KnownChunks(chunks, state, store.log);
    this.#writerId = writerId;
    this.#revise = revise;
    this.hash = store.superblock.hash;
    this.clusterSizeBytes = store.superblock.clusterSizeBytes;
    this.fanout = store.superblock.mapFanout;
    this.scratchDirectory = session.tmpDir;
    const onPublished = async (packId: PackId, pages: Iterable<Uint8Array>, seal: Uint8Array): Promise<void> => {
      await this.#known.published(packId, pages, seal);
    };
    const room = new PackRoom(store, session, writerId, onPublished, inspect);
    this.#dataPacks = new PackStream(room, 1);
    this.#mapPacks = new PackStream(room, 2);
    this.dataFrames = this.#dataPacks;
    this.mapFrames = this.#mapPacks;
  }

  async begin(backup: BackupDescription): Promise<VaultBegin> {
    const { labels = new Map(), notes = '', isProtected = false } = backup;
    this.#beside = { labels, notes, isProtected };
    this.#parent = await this.#readParent();
    const parents = await this.#mapsOf(this.#parent, backup);
    let timeSeconds = backup.isTimeOfClock === true ? await this.#laterThanAll(backup.timeSeconds) : backup.timeSeconds;
    // Nobody else adds backups of this guest while its lock is held.
    while (existsSync(manifestPath(this.#store.root, { ...this.#guest, timeSeconds }))) timeSeconds++;
    return { timeSeconds, parents };
  }

  /** The time, or the first after the guest's latest backup: a clock that was set back misorders nothing. */
  async #laterThanAll(nowSeconds: number): Promise<number> {
    const latest = await latestBackup(this.#store.root, this.#guest);
    return latest === undefined ? nowSeconds : timeAfter(latest, nowSeconds, this.#store.log);
  }

  /** As `begin` does with the guest's latest backup, for another one of its backups. */
  async relative(ref: BackupRef, backup: BackupDescription): Promise<Relative> {
    const read = await this.#readParent(ref);
    const maps = await this.#mapsOf(read, backup);
    return { maps, note: () => (read === undefined ? undefined : this.#used.add(read)) };
  }

  async #mapsOf(parent: Parent | undefined, backup: BackupDescription): Promise<(MapReader | undefined)[]> {
    const damage = ParentDamage.of(this.#chunks, this.#chunks.damage, parent?.packs ?? []);
    this.#damage.push(damage);
    if (parent !== undefined) this.#chunks.setReading(formatBackupId(parent.manifest));
    return await parentMaps(this.#chunks, parent, damage, backup, this.clusterSizeBytes, this.#store.log);
  }

  /** A damaged manifest is no parent, and no reason not to back up. */
  async #readParent(ref?: BackupRef): Promise<Parent | undefined> {
    try {
      const found = ref ?? (await latestBackup(this.#store.root, this.#guest));
      if (found === undefined) return undefined;
      const { manifest, digest } = await readManifest(this.#store.root, found);
      return { manifest, digest, packs: this.#heirsOf(this.#state, manifest.packs, digest) };
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      this.#store.log.warn(`the previous backup is not used for comparison: ${error.message} (${error.object ?? ''})`);
      return undefined;
    }
  }

  #heirsOf(state: PackState, packs: readonly PackId[], digest: Uint8Array): PackId[] | undefined {
    return state.heirsOf(packs, digest, (packId) => existsSync(packPath(this.#store.root, packId)));
  }

  has(id: Uint8Array): boolean {
    return this.#known.has(id);
  }

  /** Whether anything that the backups given out for comparison rest on is known to be damaged. */
  get isDamageKnown(): boolean {
    return this.#damage.some((damage) => !damage.isNone);
  }

  isLost(id: Uint8Array): boolean {
    return this.#damage.some((damage) => damage.isLost(id));
  }

  note(id: Uint8Array): void {
    this.#known.note(id);
  }

  noteParent(): void {
    if (this.#parent !== undefined) this.#used.add(this.#parent);
  }

  async commit(draft: ManifestDraft): Promise<string> {
    await this.#dataPacks.finish();
    await this.#mapPacks.currentId();
    const packs = await this.#packs();
    const manifest = this.#revise(this.#manifest(draft, packs));
    const bytes = encodeManifest(manifest);
    await this.#mapPacks.addManifest(manifestPart(bytes, this.hash));
    await this.#mapPacks.finish();
    await this.#syncPacksHit();
    this.#session.checkIntact();
    this.#checkPacks(packs);
    const ref = await commitManifest(this.#store, this.#session, this.#guest, draft.timeSeconds, (timeSeconds) =>
      timeSeconds === draft.timeSeconds ? bytes : encodeManifest({ ...manifest, timeSeconds }),
    );
    await this.#writeBeside(ref);
    await this.#end();
    return formatBackupId(ref);
  }

  /**
   * Whoever made a pack that was hit may have died before its name was durable, and this backup must not go with it.
   * The packs of the parent were made durable before it was committed, or before gc named them as its heirs; our own
   * when they were published.
   */
  async #syncPacksHit(): Promise<void> {
    const { fs, root } = this.#store;
    const own = [...this.#dataPacks.ids, ...this.#mapPacks.ids].map((id) => toHex(id));
    const durable = new Set([...own, ...[this.#parent, ...this.#used].flatMap((parent) => parent?.packs ?? [])]);
    const hit = [...this.#known.packsHit].filter((packId) => !durable.has(packId));
    if (hit.length === 0) return;
    const directories = new Set(hit.map((packId) => packDirectory(root, packId)));
    for (const directory of directories) await fs.fsyncDirectory(directory);
    await fs.fsyncDirectory(directoryPath(root, 'packs'));
  }

  /** Under the same lock as the commit. A backup without its labels is a backup: that they failed is said, no more. */
  async #writeBeside(ref: BackupRef): Promise<void> {
    const { labels, notes, isProtected } = this.#beside;
    if (labels.size === 0 && notes === '' && !isProtected) return;
    try {
      const { digest } = await readManifest(this.#store.root, ref);
      const sidecar = { manifestDigest: digest, labels, notes, isProtected };
      await writeSidecar(this.#store, this.#session, ref, sidecar, this.hash);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      this.#store.log.warn(`${formatBackupId(ref)} is made, but without its labels and notes: ${error.message}`);
    }
  }

  /** A pack of a parent that was condemned meanwhile is there as long as we are; its heirs are there longer. */
  async #packsNow({ packs = [], digest }: Parent): Promise<readonly PackId[]> {
    const now = await PackState.read(this.#store.root, this.#store.log);
    return this.#heirsOf(now, packs, digest) ?? packs;
  }

  async #packs(): Promise<PackId[]> {
    const packs = new Set<PackId>(this.#known.packsHit);
    for (const id of [...this.#dataPacks.ids, ...this.#mapPacks.ids]) packs.add(toHex(id));
    for (const used of this.#used) for (const id of await this.#packsNow(used)) packs.add(id);
    return [...packs].sort();
  }

  #manifest(draft: ManifestDraft, packs: PackId[]): Manifest {
    return {
      ...draft,
      sequence: (this.#parent?.manifest.sequence ?? 0) + 1,
      previousDigest: this.#parent?.digest ?? new Uint8Array(0),
      packs,
      writerId: this.#writerId,
      writer: WRITER_NAME,
      storeUuid: this.#store.superblock.storeUuid,
      finishedMillis: Date.now(),
    };
  }

  /** Just before the commit: whatever the backup rests on must still be there, under its own name and whole. */
  #checkPacks(packs: readonly PackId[]): void {
    this.#chunks.packs.closeAll();
    const missing = packs.find((packId) => this.#chunks.pack(packId) === undefined);
    if (missing === undefined) return;
    throw new FailedError('pack-gone', 'a pack that this backup needs went away or was damaged while it ran', {
      object: missing,
      advice: 'Run `vmar verify`, then back up again: what is missing will be stored anew.',
    });
  }

  async abort(): Promise<void> {
    await this.#dataPacks.abandon().catch(() => undefined);
    await this.#mapPacks.abandon().catch(() => undefined);
    await this.#end();
  }

  async #end(): Promise<void> {
    await this.#chunks.close();
    await this.#lock.release();
    await this.#session.end();
  }
}
