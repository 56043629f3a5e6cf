// SPDX-License-Identifier: MIT
// What a datastore holds for whom, now and as it grew: by the maps and the packs' tables, exactly, in time proportional to
// the map pages that differ.
//
// What a chunk takes is its part of its frame, compressed. A chunk counts for the earliest of today's backups that needs
// it, so growth over time tells of what is there now, not of backups that were forgotten.

import { diskBytes } from '../../../formats/vmar/manifest.js';
import { TABLE_CHUNK_BYTES } from '../../../formats/vmar/trailer.js';
import { BugError, InterruptedError, type VmarError } from '../../base/errors.js';
import { type BackupRef, formatGuest, type GuestRef } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import { type DamagedManifest, listManifests, type ManifestList, type StoredManifest } from '../../store/manifests.js';
import type { UnreadablePack } from '../gc/gc-packs.js';
import { Census, type Needs } from './census.js';
import type { ChunkLedger } from './chunk-ledger.js';
import { OpenMaps } from './open-maps.js';

export interface StatsOptions {
  readonly signal?: AbortSignal;
  /** More to do, and what is done of it, in bytes that are read, by and large. */
  readonly onMore?: (bytes: number) => void;
  readonly onProgress?: (bytes: number) => void;
}

export interface Amounts {
  /** Lengths of the disks. */
  readonly sizeBytes: number;
  /** Of these, what is not zero. */
  readonly logicalBytes: number;
  /** Of that, each chunk once; and the pages of maps. */
  readonly uniqueBytes: number;
  /** What these chunks take in packs. */
  readonly storedBytes: number;
}

export interface GuestStats extends Amounts {
  readonly guest: GuestRef;
  readonly backups: number;
  /** Of what is stored, what no other guest needs. */
  readonly aloneBytes: number;
}

/** What one backup has, and what no earlier one has: of any guest. */
export interface BackupStats {
  readonly ref: BackupRef;
  readonly sizeBytes: number;
  readonly logicalBytes: number;
  readonly newBytes: number;
  readonly newStoredBytes: number;
}

export interface LostBackup {
  readonly ref: BackupRef;
  readonly disk: string;
  readonly error: VmarError;
}

export interface StoreStats extends Amounts {
  /** Ordered by namespace and guest. */
  readonly guests: readonly GuestStats[];
  /** Ordered by time. */
  readonly backups: readonly BackupStats[];
  readonly packs: { readonly packs: number; readonly bytes: number };
  /** What no backup needs of the packs' bytes, their tables and headers included. */
  readonly unusedBytes: number;
  readonly missingChunks: number;
  /** Not counted, or not wholly. */
  readonly lost: readonly LostBackup[];
  readonly damagedManifests: readonly DamagedManifest[];
  readonly damagedPacks: readonly UnreadablePack[];
}

/** What a manifest counts for in the progress, with its map: nobody knows before. */
const MANIFEST_BYTES = 64 << 10;

/**
 * Counts everything once; a read session. Damage does not stop it: what cannot be read is reported, and the sums are too
 * low by it.
 * @throws InterruptedError
 */
export async function collectStats(store: Datastore, options: StatsOptions = {}): Promise<StoreStats> {
  const session = await store.beginSession('read');
  try {
    // Manifests first: whatever they need is in the packs that are listed then.
    const manifests = await listManifests(store.root);
    const maps = await OpenMaps.open(store, options.signal);
    try {
      return await countStats(maps, manifests, options);
    } finally {
      maps.close();
    }
  } catch (error) {
    throw options.signal?.aborted === true ? new InterruptedError() : error;
  } finally {
    await session.end();
  }
}

/** The same for whoever has maps and manifests at hand, and a session. Ends with the signal's reason if that is aborted. */
export async function countStats(
  maps: OpenMaps,
  manifests: ManifestList,
  options: StatsOptions = {},
): Promise<StoreStats> {
  const { onMore, onProgress, signal } = options;
  const census = new Census(maps, signal);
  const { list } = maps.packs;
  onMore?.(tableBytes(list) + MANIFEST_BYTES * manifests.entries.length);
  await census.takeStock((pack) => onProgress?.(tableBytes([pack])));
  const guests = guestsOf(manifests.entries);
  const timeline = new Timeline(manifests.entries);
  const lost: LostBackup[] = [];
  for (const [index, { entries, sums }] of guests.entries()) {
    for (const entry of entries) {
      const { place, facts } = timeline.at(entry);
      const counted = await census.addBackup(entry, { backup: place, guest: index + 1, sums });
      facts.logicalBytes = counted.logicalBytes;
      sums.sizeBytes += facts.sizeBytes;
      sums.logicalBytes += facts.logicalBytes;
      lost.push(...counted.lost.map((one) => ({ ref: entry.ref, ...one })));
      onProgress?.(MANIFEST_BYTES);
    }
  }
  const owners = ownersOf(guests, timeline);
  const totals = { uniqueBytes: 0, storedBytes: 0 };
  for (const ledger of [census.data, census.pages]) sumUp(ledger, totals, timeline.backups, owners);
  const bytes = list.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
  const { backups } = timeline;
  return {
    sizeBytes: backups.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    logicalBytes: backups.reduce((sum, { logicalBytes }) => sum + logicalBytes, 0),
    uniqueBytes: totals.uniqueBytes,
    storedBytes: Math.round(totals.storedBytes),
    guests: guests.map(roundedGuest),
    backups: backups.map((facts) => ({ ...facts, newStoredBytes: Math.round(facts.newStoredBytes) })),
    packs: { packs: list.length, bytes },
    unusedBytes: Math.max(0, Math.round(bytes - totals.storedBytes)),
    missingChunks: census.missingChunks,
    lost,
    damagedManifests: manifests.damaged,
    damagedPacks: maps.unreadable,
  };
}

function tableBytes(packs: readonly { readonly chunkCount: number }[]): number {
  return TABLE_CHUNK_BYTES * packs.reduce((sum, { chunkCount }) => sum + chunkCount, 0);
}

/** Backups of all guests in the order of time. */
class Timeline {
  readonly backups: BackupSums[];
  readonly #places = new Map<StoredManifest, number>();

  constructor(entries: readonly StoredManifest[]) {
    const byTime = [...entries].sort((a, b) => a.ref.timeSeconds - b.ref.timeSeconds);
    for (const [index, entry] of byTime.entries()) this.#places.set(entry, index + 1);
    this.backups = byTime.map(({ ref, manifest }) => {
      const sizeBytes = diskBytes(manifest);
      return { ref, sizeBytes, logicalBytes: 0, newBytes: 0, newStoredBytes: 0 };
    });
  }

  /** A backup's place, from 1. */
  at(entry: StoredManifest): { readonly place: number; readonly facts: BackupSums } {
    const place = this.#places.get(entry) ?? 0;
    const facts = this.backups[place - 1];
    if (facts === undefined) throw new BugError('a backup without a place in time');
    return { place, facts };
  }
}

interface BackupSums {
  readonly ref: BackupRef;
  readonly sizeBytes: number;
  logicalBytes: number;
  newBytes: number;
  newStoredBytes: number;
}

interface GuestSums extends Needs {
  sizeBytes: number;
  logicalBytes: number;
  aloneBytes: number;
}

interface CountedGuest {
  readonly guest: GuestRef;
  readonly entries: StoredManifest[];
  readonly sums: GuestSums;
}

/** The entries are ordered by guest and time. */
function guestsOf(entries: readonly StoredManifest[]): CountedGuest[] {
  const guests = new Map<string, CountedGuest>();
  for (const entry of entries) {
    const { namespace, guestType, guestId } = entry.ref;
    const key = formatGuest(entry.ref);
    const known = guests.get(key);
    if (known !== undefined) known.entries.push(entry);
    else {
      const sums = { sizeBytes: 0, logicalBytes: 0, uniqueBytes: 0, storedBytes: 0, aloneBytes: 0 };
      guests.set(key, { guest: { namespace, guestType, guestId }, entries: [entry], sums });
    }
  }
  return [...guests.values()];
}

function roundedGuest({ guest, entries, sums }: CountedGuest): GuestStats {
  const { storedBytes, aloneBytes } = sums;
  const rounded = { storedBytes: Math.round(storedBytes), aloneBytes: Math.round(aloneBytes) };
  return { guest, backups: entries.length, ...sums, ...rounded };
}

/** The sums of a backup's guest, by the backup's place in time. */
function ownersOf(guests: readonly CountedGuest[], timeline: Timeline): GuestSums[] {
  const owners: GuestSums[] = [];
  for (const { entries, sums } of guests) for (const entry of entries) owners[timeline.at(entry).place] = sums;
  return owners;
}

/** Goes through all chunks once: each counts for the backup that needs it first. */
function sumUp(
  ledger: ChunkLedger,
  totals: Needs,
  backups: readonly { newBytes: number; newStoredBytes: number }[],
  owners: readonly GuestSums[],
): void {
  for (let chunk = 1; chunk <= ledger.count; chunk++) {
    const first = ledger.firstBackup(chunk);
    if (first === 0) continue;
    const [rawBytes, storedBytes] = [ledger.rawBytes(chunk), ledger.storedBytes(chunk)];
    totals.uniqueBytes += rawBytes;
    totals.storedBytes += storedBytes;
    const backup = backups[first - 1]!;
    backup.newBytes += rawBytes;
    backup.newStoredBytes += storedBytes;
    if (!ledger.isShared(chunk)) owners[first]!.aloneBytes += storedBytes;
  }
}
