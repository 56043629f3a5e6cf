// SPDX-License-Identifier: MIT
// The chunks of a datastore: the index says where one should be, the packs' own tables where it is.

import type { HashName } from '../../formats/vmar/hash.js';
import { toHex } from '../base/bytes.js';
import { DamageError, NotFoundError, VmarError } from '../base/errors.js';
import type { ChunkIndex } from '../store/chunk-index.js';
import type { ContainerReader } from '../store/container-reader.js';
import { KnownDamage, readDamage } from '../store/damage-list.js';
import type { Datastore } from '../store/datastore.js';
import { type PackId, packIdOfPath } from '../store/layout.js';
import { PackSet } from '../store/pack-set.js';
import type { Session } from '../store/session.js';
import { readPackTable } from '../store/stored-packs.js';
import type { ChunkPlace, ChunkPlaces, LikelyNext, SearchedSource } from './chunk-source.js';
import { DamageNotes } from './damage-notes.js';
import { JointSearch } from './joint-search.js';

export class DatastoreChunks implements SearchedSource {
  readonly hash: HashName;
  readonly packs: PackSet;
  readonly index: ChunkIndex;
  readonly #store: Datastore;
  /** Packs whose entries in the index were wrong, and were put right. */
  readonly #righted = new Set<PackId>();
  /** Frames that were found damaged, as `FRAME@PATH`. */
  readonly #distrusted = new Set<string>();
  /** As it was when this was opened. */
  readonly damage: KnownDamage;
  readonly #notes: DamageNotes | undefined;
  readonly #search: JointSearch;
  /** Packs that went away between their listing and their opening. */
  #vanished = 0;

  private constructor(store: Datastore, index: ChunkIndex, damage: KnownDamage, notes: DamageNotes | undefined) {
    this.#store = store;
    this.damage = damage;
    this.#notes = notes;
    this.hash = store.superblock.hash;
    this.packs = new PackSet(store.root);
    this.index = index;
    this.#search = new JointSearch(this, {
      found: async (id, places) => await this.#found(id, places),
      checkReachable: async () => await this.checkReachable(),
      vanished: () => this.#vanished,
      onLong: (chunks) => this.#tellSearch(chunks),
    });
  }

  /**
   * Opens the index, brought up to date with the packs that are there, or with those that are wanted: what lies elsewhere is
   * found all the same, slowly. With a session, damage that is met on the way goes to the damage list; by whom it is met,
   * `setReading` says.
   */
  static async open(store: Datastore, session?: Session, wanted?: ReadonlySet<PackId>): Promise<DatastoreChunks> {
    const damage = await readDamage(store.root, store.log);
    const notes = session === undefined ? undefined : new DamageNotes(store, session, damage);
    return new DatastoreChunks(store, await store.index(wanted), damage, notes);
  }

  /** As `open`, but for who finds out what is damaged. */
  static async openToVerify(store: Datastore): Promise<DatastoreChunks> {
    return new DatastoreChunks(store, await store.index(), KnownDamage.NONE, undefined);
  }

  /** Names the backup that is read from here on. */
  setReading(backup: string): void {
    if (this.#notes !== undefined) this.#notes.reading = backup;
  }

  /** Not where the chunk is known to be damaged: then every other place is looked for. */
  locate(id: Uint8Array): ChunkPlace | undefined {
    const hit = this.index.get(id);
    if (hit === undefined || this.damage.isAt(hit.packId, hit.frame, id)) return undefined;
    const { packId, frame, offsetBytes, lengthBytes } = hit;
    const container = this.pack(packId);
    return container === undefined ? undefined : { container, frame, offsetBytes, lengthBytes };
  }

  async locateAll(id: Uint8Array, next?: LikelyNext): Promise<ChunkPlaces> {
    return await this.#search.find(id, next);
  }

  endSearch(): void {
    this.#search.end();
  }

  async #found(id: Uint8Array, { places, passedOver }: ChunkPlaces): Promise<ChunkPlaces> {
    const isSuspect = ({ container, frame }: ChunkPlace): boolean =>
      this.damage.isAt(this.#packIdOf(container), frame, id);
    const sound = places.filter((place) => !isSuspect(place));
    await this.learn(id, sound);
    // Where it is known to be damaged it comes last; all that can be read of a pack is worth a try.
    return { places: [...sound, ...places.filter(isSuspect)], passedOver };
  }

  #tellSearch(chunks: number): void {
    const what = chunks === 1 ? 'a chunk that is' : `${chunks} chunks that are`;
    this.#store.log.info(`looking through all packs for ${what} not where the index says`);
  }

  /** All packs, by their names; those that go away meanwhile are left out. */
  async *containers(): AsyncGenerator<ContainerReader | VmarError> {
    const { ids, shut } = await this.#store.listPacksSeen();
    yield* shut.values();
    for (const packId of ids.sort()) {
      let container: ContainerReader | VmarError;
      try {
        container = this.packs.openNamed(packId);
      } catch (error) {
        if (!(error instanceof VmarError)) throw error;
        container = error;
      }
      if (container instanceof NotFoundError) this.#vanished++;
      else yield container;
    }
  }

  /** Puts the index right where it has a chunk at none of its places. */
  async learn(id: Uint8Array, places: readonly ChunkPlace[]): Promise<void> {
    const [first] = places;
    if (first === undefined || places.some((place) => this.#tells(id, place))) return;
    await this.#putRight(this.#packIdOf(first.container));
  }

  #packIdOf({ header }: ContainerReader): PackId {
    return toHex(header.containerId);
  }

  /** Whether the index has the chunk at this place. */
  #tells(id: Uint8Array, place: ChunkPlace): boolean {
    const hit = this.index.get(id);
    if (hit?.packId !== this.#packIdOf(place.container) || hit.frame !== place.frame) return false;
    return hit.offsetBytes === place.offsetBytes && hit.lengthBytes === place.lengthBytes;
  }

  /** Takes a pack into the index anew, whose chunks it did not find; once, so that a pack costs one slow search. */
  async #putRight(packId: PackId): Promise<void> {
    if (this.#righted.has(packId)) return;
    this.#righted.add(packId);
    const { log, root } = this.#store;
    try {
      const { footerSeal, pages } = await readPackTable(root, packId);
      const kept: Uint8Array[] = [];
      for await (const page of pages) kept.push(page);
      await this.index.removePack(packId);
      await this.index.addPack(packId, footerSeal, kept);
      log.info(`the chunk index was wrong about pack ${packId}, and is put right`);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      // A damaged pack is not the index's fault; verify tells of it.
      if (!(error instanceof DamageError))
        log.warn(`${error.message}; it was wrong about pack ${packId}, and stays so`);
    }
  }

  distrust({ container, frame }: ChunkPlace): void {
    this.#distrusted.add(`${frame}@${container.path}`);
    const packId = packIdOfPath(this.#store.root, container.path);
    if (packId !== undefined) this.#notes?.note(packId, frame);
  }

  /** Whether the index knows a sound place of a chunk outside of a pack. */
  isElsewhere(id: Uint8Array, packId: PackId): boolean {
    const hit = this.index.get(id);
    return hit !== undefined && hit.packId !== packId && this.confirm(hit.packId, id) === 'here';
  }

  /**
   * What is behind a hit of the index, by the pack's own table: 'here' if nothing is known against it, 'stale' if the
   * index is wrong, 'damaged' if the pack or the frame is.
   */
  confirm(packId: PackId, id: Uint8Array): 'here' | 'stale' | 'damaged' {
    try {
      const container = this.pack(packId);
      if (container === undefined) return 'damaged';
      const entry = container.find(id);
      if (entry === undefined) return 'stale';
      if (this.damage.isAt(packId, entry.frame, id)) return 'damaged';
      const isDistrusted = this.#distrusted.size > 0 && this.#distrusted.has(`${entry.frame}@${container.path}`);
      return isDistrusted ? 'damaged' : 'here';
    } catch (error) {
      if (error instanceof VmarError) return 'damaged';
      throw error;
    }
  }

  /** An open pack; undefined if it is gone, damaged or newer. */
  pack(packId: PackId): ContainerReader | undefined {
    try {
      return this.packs.openNamed(packId);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      if (error instanceof DamageError) this.#notes?.note(packId, 'all');
      return undefined;
    }
  }

  async checkReachable(): Promise<void> {
    try {
      await this.#store.checkReachable();
    } catch (error) {
      this.#search.forget();
      throw error;
    }
  }

  openAgain(): void {
    this.packs.closeAll();
  }

  doubt(): void {
    this.#search.doubt();
  }

  /** Closes the packs, and has remembered what damage was met; the index is the datastore's. Before the session ends. */
  async close(): Promise<void> {
    this.#search.end();
    await this.#notes?.settle();
    this.packs.closeAll();
  }
}
