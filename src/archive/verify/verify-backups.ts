// SPDX-License-Identifier: MIT
// The backups of a datastore: their sidecars, and that all that their maps name is there. Whoever needs what is damaged
// is named.

import { VmarError } from '../../base/errors.js';
import { packsNow } from '../../store/backup-health.js';
import { formatBackupId } from '../../store/backup-id.js';
import type { FossilRecord } from '../../store/gc/fossil-record.js';
import { type PackId, packIdOfPath, sidecarPath } from '../../store/layout.js';
import type { StoredManifest } from '../../store/manifests.js';
import { readSidecar } from '../../store/sidecars.js';
import type { VerifyHistory } from '../../store/verify-history.js';
import type { SearchedSource } from '../chunk-source.js';
import type { TakeTurn } from '../turns.js';
import type { Checked, DamageList } from './damage.js';
import type { DamagedPlaces } from './damaged-places.js';
import { wholeFile } from './damaged-range.js';
import { followAll } from './follow-all.js';
import { type EnsureChecked, GoodPlaces } from './good-places.js';
import { LostChunks } from './lost-chunks.js';
import type { MissingPacks } from './missing-packs.js';
import { type MapPurpose, MapVerifier } from './verify-maps.js';

export interface BackupsToVerify {
  readonly root: string;
  readonly source: SearchedSource;
  readonly successors: FossilRecord['successors'];
  readonly damage: DamageList;
  readonly damagedPlaces: DamagedPlaces;
  readonly missingPacks: MissingPacks;
  readonly checked: Checked;
  readonly history: VerifyHistory;
  readonly takeTurn: TakeTurn;
  /** Gets the records of what is no damage, but cannot be read by us. */
  readonly refuse: (record: number, error: unknown) => void;
}

export class BackupsVerifier {
  readonly #given: BackupsToVerify;
  readonly #lost: LostChunks;

  constructor(given: BackupsToVerify) {
    this.#given = given;
    this.#lost = new LostChunks(given.source, given.takeTurn);
  }

  /**
   * Follows the maps of backups, of the first in any case, of the others until `isOver`.
   * @returns those that were followed to their end
   */
  async follow(
    entries: readonly StoredManifest[],
    ensureChecked: EnsureChecked,
    isOver: () => boolean = () => false,
  ): Promise<StoredManifest[]> {
    const { checked, history } = this.#given;
    const startMillis = Date.now();
    const followed = await this.#walk(entries, this.#mapVerifier(ensureChecked), isOver);
    for (const { digest } of followed) history.noteFollowed(digest, startMillis);
    checked.backups += followed.length;
    return followed;
  }

  /**
   * What was found may concern backups that were not followed, and they are named too, until `isOver`: first those that rest
   * on a damaged pack by their lists, which are to be supersets; of these those come last that `isNamed` already, and the others
   * in any order, so that runs that are cut off get to all of them.
   * @returns how many that rest on a damaged pack were not asked
   */
  async nameOthers(
    all: readonly StoredManifest[],
    followed: readonly StoredManifest[],
    isOver: () => boolean = () => false,
    isNamed: (backup: string) => boolean = () => false,
  ): Promise<number> {
    const maps = this.#mapVerifier(async () => {}, 'name');
    const seen = new Set(followed);
    const others = all.filter((entry) => !seen.has(entry));
    const concerned = this.#concerned(others);
    const rank = new Map([...concerned].map((entry) => [entry, rankOf(isNamed(formatBackupId(entry.ref)))]));
    const ordered = [...concerned].sort((a, b) => rank.get(a)! - rank.get(b)!);
    const asked = await this.#walk(ordered, maps, isOver);
    await this.#walk(
      others.filter((entry) => !concerned.has(entry)),
      maps,
      isOver,
    );
    return concerned.size - asked.length;
  }

  #concerned(entries: readonly StoredManifest[]): Set<StoredManifest> {
    const { root, damage, successors } = this.#given;
    const packs = new Set<PackId>();
    for (const { file, kind } of damage.records) {
      const packId = packIdOfPath(root, file);
      if (packId !== undefined) packs.add(packId);
      // In no pack that anybody names: it may be anybody's.
      else if (kind === 'missing-chunk') return new Set(entries);
    }
    const isDamaged = (packId: PackId): boolean => packs.has(packId);
    return new Set(entries.filter(({ manifest }) => packsNow(manifest.packs, successors, isDamaged).size > 0));
  }

  #mapVerifier(ensureChecked: EnsureChecked, purpose: MapPurpose = 'find'): MapVerifier {
    const { damage, damagedPlaces, checked, takeTurn } = this.#given;
    const places = new GoodPlaces(this.#lost, damage, damagedPlaces, ensureChecked);
    return new MapVerifier(places, damage, checked, takeTurn, purpose);
  }

  async #walk(entries: readonly StoredManifest[], maps: MapVerifier, isOver: () => boolean): Promise<StoredManifest[]> {
    const follow = async (entry: StoredManifest): Promise<boolean> => await this.#followOne(maps, entry);
    return await followAll({ items: entries, follow, lost: this.#lost, isOver });
  }

  async #followOne(maps: MapVerifier, { manifest, digest, ref, path: file }: StoredManifest): Promise<boolean> {
    const { damage, missingPacks } = this.#given;
    const backup = formatBackupId(ref);
    // The manifest's copy in the backup's last pack.
    for (const record of damage.of(digest)) damage.touch(record, backup, undefined);
    const suspects = (): readonly number[] => missingPacks.suspects(manifest.packs);
    let isKnown = true;
    for (const disk of manifest.disks) {
      const wish = { backup, file, disk, fanout: manifest.mapFanout, suspects };
      isKnown = (await maps.verifyDisk(wish)) && isKnown;
    }
    return isKnown;
  }

  async verifySidecar({ ref, digest }: StoredManifest): Promise<void> {
    const { root, damage, refuse } = this.#given;
    try {
      await readSidecar(root, ref, digest);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      const file = sidecarPath(root, ref);
      const record = damage.add({ file, ...wholeFile(file), kind: 'sidecar', problem: error.message });
      damage.touch(record, formatBackupId(ref), undefined);
      refuse(record, error);
    }
  }
}

function rankOf(isNamed: boolean): number {
  return Math.random() + (isNamed ? 1 : 0);
}
