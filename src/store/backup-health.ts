// SPDX-License-Identifier: MIT
// What verify knows of each backup: whether it is damaged, and when it was last found whole.

import { existsSync } from 'node:fs';
import { VmarError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { formatBackupId } from './backup-id.js';
import { type KnownDamage, readDamage } from './damage-list.js';
import { EMPTY_RECORD, type FossilRecord } from './gc/fossil-record.js';
import { readRecord } from './gc/pack-state.js';
import { type PackId, packPath } from './layout.js';
import type { StoredManifest } from './manifests.js';
import { VerifyHistory } from './verify-history.js';

export class BackupHealth {
  readonly #root: string;
  readonly #damage: KnownDamage;
  readonly #history: VerifyHistory;
  readonly #successors: FossilRecord['successors'];
  readonly #isThere = new Map<PackId, boolean>();

  private constructor(root: string, damage: KnownDamage, history: VerifyHistory, { successors }: FossilRecord) {
    this.#root = root;
    this.#damage = damage;
    this.#history = history;
    this.#successors = successors;
  }

  /** Never fails for damage of what it reads, which `log` says. */
  static async read(root: string, log: Log): Promise<BackupHealth> {
    const damage = await readDamage(root, log);
    const history = await VerifyHistory.read(root, log);
    return new BackupHealth(root, damage, history, await successorsOf(root));
  }

  /** Whether something that the backup needs is known to be damaged. */
  isDamaged({ ref }: Pick<StoredManifest, 'ref'>): boolean {
    return this.#damage.isDamaged(formatBackupId(ref));
  }

  /**
   * Since when all of the backup is known to be whole: its maps were followed, and every pack that it rests on was read,
   * the first of these then. Undefined if any of that never happened, or if it is damaged.
   */
  lastVerifiedMillis(entry: Pick<StoredManifest, 'ref' | 'digest' | 'manifest'>): number | undefined {
    const followed = this.#history.followedMillis(entry.digest);
    if (followed === undefined || this.isDamaged(entry)) return undefined;
    let oldest = followed;
    for (const packId of packsNow(entry.manifest.packs, this.#successors, (id) => this.#exists(id))) {
      const read = this.#history.packReadMillis(packId);
      if (read === undefined) return undefined;
      oldest = Math.min(oldest, read);
    }
    return oldest;
  }

  #exists(packId: PackId): boolean {
    let isThere = this.#isThere.get(packId);
    if (isThere === undefined) {
      isThere = existsSync(packPath(this.#root, packId));
      this.#isThere.set(packId, isThere);
    }
    return isThere;
  }
}

/** What gc put in the place of packs; nothing where its record is damaged, which verify tells. */
export async function successorsOf(root: string): Promise<FossilRecord> {
  try {
    return await readRecord(root);
  } catch (error) {
    if (error instanceof VmarError) return EMPTY_RECORD;
    throw error;
  }
}

/** The packs that a manifest's list stands for now: of those that gc replaced, the packs that have their chunks. */
export function packsNow(
  named: readonly PackId[],
  successors: FossilRecord['successors'],
  isThere: (packId: PackId) => boolean,
): Set<PackId> {
  const now = new Set<PackId>();
  const seen = new Set<PackId>();
  const waiting = [...named];
  for (let packId = waiting.pop(); packId !== undefined; packId = waiting.pop()) {
    if (seen.has(packId)) continue;
    seen.add(packId);
    const next = successors.get(packId);
    if (isThere(packId) && next === undefined) now.add(packId);
    else waiting.push(...(next ?? []));
  }
  return now;
}
