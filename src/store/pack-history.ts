// SPDX-License-Identifier: MIT
// What is known of each pack by itself: when verify read it whole, whether it is damaged, and which backups need it.

import { statSync } from 'node:fs';
import { NotFoundError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { packsNow, successorsOf } from './backup-health.js';
import { formatBackupId, resolveBackup } from './backup-id.js';
import { type DamagedPack, NO_PACK, readDamage } from './damage-list.js';
import { type PackId, packPath } from './layout.js';
import { listManifests } from './manifests.js';
import { listPacks } from './stored-packs.js';
import { VerifyHistory } from './verify-history.js';

export interface PackHistory {
  readonly packId: PackId;
  readonly path: string;
  /** Undefined where the pack is gone. */
  readonly fileBytes: number | undefined;
  /** When the last reading of all its bytes began; undefined for never. */
  readonly readMillis: number | undefined;
  readonly damage: DamagedPack | undefined;
  /** Full ids of the backups that rest on it, by their lists of packs; in the order of their names. */
  readonly neededBy: readonly string[];
}

export interface PackHistoryWish {
  /** Packs, and backups as users call them, whose packs are meant; neither: all packs. */
  readonly packs: readonly PackId[];
  readonly backups: readonly string[];
}

/**
 * By the packs' ids. A backup whose manifest is damaged needs what it needed when verify looked last.
 * @throws NotFoundError if there is no such backup, or no such pack and none that needs it.
 */
export async function readPackHistory(root: string, log: Log, wish: PackHistoryWish): Promise<PackHistory[]> {
  const history = await VerifyHistory.read(root, log);
  const damage = (await readDamage(root, log)).packs;
  const present = new Set((await listPacks(root)).ids);
  const needs = await readNeeds(root, new Set([...present, ...damage.keys(), ...wish.packs]), history);
  const gone = [...damage.values()].filter(({ packId, isGone }) => isGone && needs.byPack.has(packId));
  const all = new Set([...present, ...gone.map(({ packId }) => packId)]);
  const packs = wish.packs.length + wish.backups.length === 0 ? all : wanted(wish, needs);
  return [...packs].sort().map((packId) => {
    const path = packPath(root, packId);
    const neededBy = needs.byPack.get(packId) ?? [];
    if (!present.has(packId) && neededBy.length === 0) throw noSuchPack(packId);
    const fileBytes = statSync(path, { throwIfNoEntry: false })?.size;
    return {
      packId,
      path,
      fileBytes,
      readMillis: history.packReadMillis(packId),
      damage: damage.get(packId),
      neededBy,
    };
  });
}

interface Needs {
  readonly byPack: ReadonlyMap<PackId, readonly string[]>;
  readonly byBackup: ReadonlyMap<string, ReadonlySet<PackId>>;
  readonly refs: Parameters<typeof resolveBackup>[1];
}

async function readNeeds(root: string, counted: ReadonlySet<PackId>, history: VerifyHistory): Promise<Needs> {
  const { entries, damaged } = await listManifests(root);
  const { successors } = await successorsOf(root);
  const isThere = (packId: PackId): boolean => packId !== NO_PACK && counted.has(packId);
  const byBackup = new Map<string, Set<PackId>>();
  for (const { ref, manifest } of entries) {
    byBackup.set(formatBackupId(ref), packsNow(manifest.packs, successors, isThere));
  }
  const unread = new Map(damaged.map(({ ref }) => [formatBackupId(ref), new Set<PackId>()]));
  for (const packId of unread.size === 0 ? [] : counted) {
    for (const backup of history.neededBy(packId)) unread.get(backup)?.add(packId);
  }
  for (const [backup, packs] of unread) byBackup.set(backup, packs);
  const byPack = new Map<PackId, string[]>();
  for (const [backup, packs] of [...byBackup].sort(([a], [b]) => (a < b ? -1 : 1))) {
    for (const packId of packs) {
      const needers = byPack.get(packId);
      if (needers === undefined) byPack.set(packId, [backup]);
      else needers.push(backup);
    }
  }
  return { byPack, byBackup, refs: [...entries, ...damaged].map(({ ref }) => ref) };
}

function wanted({ packs, backups }: PackHistoryWish, { byBackup, refs }: Needs): Set<PackId> {
  const named = backups.map((name) => formatBackupId(resolveBackup(name, refs)));
  return new Set([...packs, ...named.flatMap((backup) => [...(byBackup.get(backup) ?? [])])]);
}

function noSuchPack(packId: PackId): NotFoundError {
  return new NotFoundError('no-such-pack', 'there is no such pack, and no backup that needs it', {
    object: packId,
    advice: '`vmar verify --list` prints all packs.',
  });
}
