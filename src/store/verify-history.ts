// SPDX-License-Identifier: MIT
// The verify history, state/verify-history: when each pack was last read whole, and by which backups it is needed; when
// each backup's maps were last followed. docs/ORDERING.md, "What verify remembers".
//
// Guarantee: a time stands there only if all of it was read and checked after the process that says so had begun. What
// several verifiers did at once is joined: the later time counts.

import type { HashName } from '../../formats/vmar/hash.js';
import { placesOf, type Run } from '../../formats/vmar/runs.js';
import {
  decodeVerifyHistory,
  encodeVerifyHistory,
  type VerifiedPack,
  type VerifyHistoryFields,
} from '../../formats/vmar/verify-history.js';
import { compareBytes, fromHex, toHex } from '../base/bytes.js';
import { BugError, VmarError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { PackId } from './layout.js';
import type { Session, SessionPlace } from './session.js';
import { changingState, readStateFile, statePath, writeStateFiles } from './state-file.js';

/** A time so far in the future was told by a wrong clock, and says nothing. */
const CLOCK_SLACK_MILLIS = 300_000;

export function historyPath(root: string): string {
  return statePath(root, 'verify-history');
}

export interface FollowedBackup {
  /** Its full id. */
  readonly backup: string;
  /** Of its manifest. */
  readonly digest: Uint8Array;
}

/** What is there now; whatever else a history speaks of is forgotten. */
export interface HistoryScope {
  readonly packs: ReadonlySet<PackId>;
  /** In the order of their names. */
  readonly backups: readonly FollowedBackup[];
  /** Of each pack the backups that rest on it, by their places in `backups`; runs, as whole nights share most packs. */
  readonly neededBy: ReadonlyMap<PackId, readonly Run[]>;
}

/** @param packsOf what a backup rests on, asked for once for each */
export function historyScope<Backup extends FollowedBackup>(
  packs: ReadonlySet<PackId>,
  backups: readonly Backup[],
  packsOf: (backup: Backup) => Iterable<PackId>,
): HistoryScope {
  const sorted = [...backups].sort((a, b) => compareNames(a.backup, b.backup));
  const neededBy = new Map<PackId, { first: number; count: number }[]>();
  for (const [place, backup] of sorted.entries()) {
    for (const packId of packsOf(backup)) {
      const runs = neededBy.get(packId) ?? [];
      neededBy.set(packId, runs);
      const last = runs.at(-1);
      if (last !== undefined && last.first + last.count === place) last.count++;
      else runs.push({ first: place, count: 1 });
    }
  }
  return { packs, backups: sorted.map(({ backup, digest }) => ({ backup, digest })), neededBy };
}

export class VerifyHistory {
  readonly #read = new Map<PackId, number>();
  /** By digest, in hex. */
  readonly #followed = new Map<string, number>();
  readonly #fields: VerifyHistoryFields;
  readonly #latestMillis: number;
  /** Who needed each pack, as it is stored; made when first asked for. */
  #runs: Map<PackId, readonly Run[]> | undefined;

  /** @param nowMillis times much later than this count as never */
  constructor(fields: VerifyHistoryFields, nowMillis: number) {
    this.#fields = fields;
    this.#latestMillis = nowMillis + CLOCK_SLACK_MILLIS;
    for (const { packId, readMillis } of fields.packs) {
      if (this.#isTime(readMillis)) this.#read.set(toHex(packId), readMillis);
    }
    for (const { manifestDigest, followedMillis } of fields.backups) {
      if (this.#isTime(followedMillis)) this.#followed.set(toHex(manifestDigest), followedMillis);
    }
  }

  #isTime(millis: number): boolean {
    return millis > 0 && millis <= this.#latestMillis;
  }

  static empty(): VerifyHistory {
    return new VerifyHistory({ backups: [], packs: [] }, 0);
  }

  /** Of a datastore. A damaged one counts as empty, which `log` says: verify reports it, and makes it anew. */
  static async read(root: string, log: Log, nowMillis = Date.now()): Promise<VerifyHistory> {
    try {
      const fields = await readStateFile(historyPath(root), decodeVerifyHistory);
      return fields === undefined ? VerifyHistory.empty() : new VerifyHistory(fields, nowMillis);
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      log.warn(`${error.message} (${error.object ?? historyPath(root)}); when packs were verified is not known`);
      return VerifyHistory.empty();
    }
  }

  /** When every byte of a pack was last read; undefined for never. */
  packReadMillis(packId: PackId): number | undefined {
    return this.#read.get(packId);
  }

  /** When the maps of the backup with this manifest were last followed; undefined for never. */
  followedMillis(manifestDigest: Uint8Array): number | undefined {
    return this.#followed.get(toHex(manifestDigest));
  }

  /** The backups that needed a pack when that was last looked at. */
  neededBy(packId: PackId): readonly string[] {
    const { backups, packs } = this.#fields;
    this.#runs ??= new Map(packs.map((pack) => [toHex(pack.packId), pack.neededBy]));
    return placesOf(this.#runs.get(packId) ?? []).flatMap((at) => backups[at]?.backup ?? []);
  }

  noteRead(packId: PackId, millis: number): void {
    this.#read.set(packId, Math.max(millis, this.#read.get(packId) ?? 0));
  }

  noteFollowed(manifestDigest: Uint8Array, millis: number): void {
    const key = toHex(manifestDigest);
    this.#followed.set(key, Math.max(millis, this.#followed.get(key) ?? 0));
  }

  /** Takes over what another knows later. */
  join(other: VerifyHistory): void {
    for (const [packId, millis] of other.#read) if (this.#isTime(millis)) this.noteRead(packId, millis);
    for (const [key, millis] of other.#followed) {
      if (this.#isTime(millis)) this.#followed.set(key, Math.max(millis, this.#followed.get(key) ?? 0));
    }
  }

  /** What is to be stored of it. */
  fields({ packs, backups, neededBy }: HistoryScope): VerifyHistoryFields {
    return {
      backups: backups.map(({ backup, digest }) => {
        return { backup, manifestDigest: digest, followedMillis: this.followedMillis(digest) ?? 0 };
      }),
      packs: [...packs].sort().map((id) => this.#packFields(id, neededBy.get(id) ?? [])),
    };
  }

  #packFields(id: PackId, neededBy: readonly Run[]): VerifiedPack {
    const packId = fromHex(id, 16);
    if (packId === undefined) throw new BugError(`not the id of a pack: ${id}`);
    return { packId, readMillis: this.packReadMillis(id) ?? 0, neededBy };
  }
}

function compareNames(a: string, b: string): number {
  return compareBytes(Buffer.from(a), Buffer.from(b));
}

/** Joins a history with the one that is stored, and stores it, durably. Whether that could be done. */
export async function saveHistory(
  store: SessionPlace & { checkWritable(): void; readonly superblock: { readonly hash: HashName } },
  session: Session,
  history: VerifyHistory,
  scope: HistoryScope,
): Promise<boolean> {
  return await changingState(store, session, async () => {
    history.join(await VerifyHistory.read(store.root, store.log));
    const bytes = encodeVerifyHistory(history.fields(scope), store.superblock.hash);
    await writeStateFiles(store, session, new Map([[historyPath(store.root), bytes]]));
  });
}
