// SPDX-License-Identifier: MIT
// What verify remembers of its work, in state/: so that the next one goes on where this one ended, however it ended.
//
// Guarantee: when the history says that a pack was read, what was found of it is in the damage list already.

import { statSync } from 'node:fs';
import { packsNow } from '../../store/backup-health.js';
import { formatBackupId } from '../../store/backup-id.js';
import { changeDamage, type DamagedPack, type KnownDamage, NO_PACK, readDamage } from '../../store/damage-list.js';
import type { Datastore } from '../../store/datastore.js';
import type { FossilRecord } from '../../store/gc/fossil-record.js';
import type { PackId } from '../../store/layout.js';
import type { ManifestList } from '../../store/manifests.js';
import type { Session } from '../../store/session.js';
import {
  type HistoryScope,
  historyPath,
  historyScope,
  saveHistory,
  VerifyHistory,
} from '../../store/verify-history.js';
import { type DamageEntries, joinEntries } from './damage-entries.js';

/** Saving takes at most this part of the time. */
const SAVING_SHARE = 1 / 20;

export interface MemoryScope {
  readonly list: Pick<ManifestList, 'entries'>;
  readonly present: ReadonlySet<PackId>;
  readonly successors: FossilRecord['successors'];
  readonly entries: DamageEntries;
  /** Otherwise nothing is written. */
  readonly remembers: boolean;
}

/** How far the maps were followed. */
export interface FollowedScope {
  /** Those of every backup, so that what is missing is all known. */
  readonly isAll: boolean;
  /** All were asked that may need what is damaged. Otherwise those stay named that were named before. */
  readonly isNamed: boolean;
}

export class VerifyMemory {
  readonly history: VerifyHistory;
  /** As it was at first. */
  readonly known: KnownDamage;
  readonly #store: Datastore;
  readonly #session: Session;
  readonly #scope: HistoryScope;
  readonly #entries: DamageEntries;
  /** When the reading of each pack that was read whole began. */
  readonly #read = new Map<PackId, number>();
  /** When this run wrote the entry of a pack. */
  readonly #written = new Map<PackId, number>();
  #unsaved = new Set<PackId>();
  readonly #startMillis = Date.now();
  /** When the history was changed that is joined into this one. */
  #stamp = 0;
  #canSave = true;
  #nextSave = 0;
  #saving: Promise<void> | undefined;

  private constructor(
    store: Datastore,
    session: Session,
    history: VerifyHistory,
    known: KnownDamage,
    scope: HistoryScope,
    entries: DamageEntries,
  ) {
    this.#store = store;
    this.#session = session;
    this.history = history;
    this.known = known;
    this.#scope = scope;
    this.#entries = entries;
  }

  static async open(store: Datastore, session: Session, given: MemoryScope): Promise<VerifyMemory> {
    const { list, present, successors, entries, remembers } = given;
    const history = await VerifyHistory.read(store.root, store.log);
    const known = await readDamage(store.root, store.log);
    const backups = list.entries.map(({ ref, digest, manifest }) => ({
      backup: formatBackupId(ref),
      digest,
      manifest,
    }));
    const isThere = (packId: PackId): boolean => present.has(packId);
    const scope = historyScope(present, backups, ({ manifest }) => packsNow(manifest.packs, successors, isThere));
    const memory = new VerifyMemory(store, session, history, known, scope, entries);
    memory.#canSave = remembers;
    return memory;
  }

  /** Every byte of a pack was read, from then on. Remembered durably now and then. */
  async packRead(packId: PackId, startMillis: number): Promise<void> {
    this.#read.set(packId, startMillis);
    this.#unsaved.add(packId);
    if (performance.now() < this.#nextSave || this.#saving !== undefined) return;
    await this.save();
  }

  isThere(packId: PackId): boolean {
    return this.#scope.packs.has(packId) || packId === NO_PACK || this.known.packs.get(packId)?.isGone === true;
  }

  /** Whether another verifier has read a pack since this one began, and found nothing. Looks where that is remembered. */
  async isReadByOthers(packId: PackId): Promise<boolean> {
    const { root, log } = this.#store;
    if (stampOf(root) === this.#stamp && (this.history.packReadMillis(packId) ?? 0) < this.#startMillis) return false;
    const others = await VerifyHistory.read(root, log);
    if ((others.packReadMillis(packId) ?? 0) < this.#startMillis || this.known.packs.has(packId)) return false;
    if ((await readDamage(root, log)).packs.has(packId)) return false;
    this.history.join(others);
    return true;
  }

  /** Makes durable what was found until now, and what was read. */
  async save(): Promise<void> {
    while (this.#saving !== undefined) await this.#saving;
    this.#saving = this.#save().finally(() => {
      this.#saving = undefined;
    });
    await this.#saving;
  }

  async #save(): Promise<void> {
    if (!this.#canSave) return;
    const begun = performance.now();
    const unsaved = this.#unsaved;
    this.#unsaved = new Set();
    const found = [...unsaved].flatMap((packId) => this.#entries.of(packId, Date.now(), true) ?? []);
    if (found.length > 0) {
      await this.#change((known) => {
        const packs = new Map(known.packs);
        for (const entry of found) packs.set(entry.packId, this.#own(joinEntries(packs.get(entry.packId), entry)));
        return packs.values();
      });
    }
    for (const packId of unsaved) this.history.noteRead(packId, this.#read.get(packId) ?? 0);
    if (this.#canSave) this.#canSave = await saveHistory(this.#store, this.#session, this.history, this.#scope);
    this.#stamp = stampOf(this.#store.root);
    const now = performance.now();
    this.#nextSave = now + (now - begun) / SAVING_SHARE;
  }

  #own(entry: DamagedPack): DamagedPack {
    this.#written.set(entry.packId, entry.seenMillis);
    return entry;
  }

  async #change(change: (known: KnownDamage) => Iterable<DamagedPack>): Promise<void> {
    this.#canSave = this.#canSave && (await changeDamage(this.#store, this.#session, change));
  }

  /** At the end, when it is known whom the damage touches: the damage list as it is to be, and the history. */
  async finish({ isAll, isNamed }: FollowedScope): Promise<void> {
    while (this.#saving !== undefined) await this.#saving;
    const now = Date.now();
    const found = this.#entries.packs();
    await this.#change((known) => {
      const packs = new Map(known.packs);
      for (const { packId, isGone } of known.packs.values()) {
        const isMissing = packId === NO_PACK || isGone;
        if (isMissing ? isAll : !this.#scope.packs.has(packId)) packs.delete(packId);
      }
      for (const packId of new Set([...found, ...this.#read.keys()])) {
        const before = known.packs.get(packId);
        if (this.#isOthers(before)) continue;
        const entry = this.#entries.of(packId, now, false);
        if (entry === undefined) packs.delete(packId);
        else if (this.#read.has(packId)) packs.set(packId, afresh(entry, before, isNamed));
        else packs.set(packId, joinEntries(packs.get(packId), entry));
      }
      return packs.values();
    });
    // What was found of them stands there now, with whom it touches.
    this.#unsaved = new Set();
    for (const [packId, millis] of this.#read) this.history.noteRead(packId, millis);
    await this.save();
  }

  /** Another process saw it damaged after we had read it. */
  #isOthers(before: DamagedPack | undefined): boolean {
    if (before === undefined) return false;
    const start = this.#read.get(before.packId);
    const { packId, seenMillis } = before;
    return start !== undefined && seenMillis > start && seenMillis !== this.#written.get(packId);
  }
}

function stampOf(root: string): number {
  return statSync(historyPath(root), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** All of the pack was read again; whom it touches may not be known in full. */
function afresh(entry: DamagedPack, before: DamagedPack | undefined, isNamed: boolean): DamagedPack {
  const again = { ...entry, sinceMillis: before?.sinceMillis ?? entry.sinceMillis };
  if (isNamed) return again;
  return { ...again, touched: new Set([...(before?.touched ?? []), ...entry.touched]), isMet: true };
}
