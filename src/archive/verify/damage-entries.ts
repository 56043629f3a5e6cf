// SPDX-License-Identifier: MIT
// What verify found, in the words of the damage list: by pack, with the frames and chunks that are not to be counted on.

import { VmarError } from '../../base/errors.js';
import { type DamagedPack, NO_PACK } from '../../store/damage-list.js';
import { type PackId, packIdOfPath, packPath } from '../../store/layout.js';
import type { PackSet } from '../../store/pack-set.js';
import { packIdBytes } from '../pack-id-bytes.js';
import { framesIn } from './container-parts.js';
import type { DamageList, DamageRecord } from './damage.js';
import type { DamagedParts, DamagedPlaces } from './damaged-places.js';

/** Nobody knows which of its chunks can be had. */
const OF_ALL: ReadonlySet<DamageRecord['kind']> = new Set(['container', 'table']);

export class DamageEntries {
  readonly #root: string;
  readonly #packs: PackSet;
  readonly #damage: DamageList;
  readonly #places: DamagedPlaces;

  constructor(root: string, packs: PackSet, damage: DamageList, places: DamagedPlaces) {
    this.#root = root;
    this.#packs = packs;
    this.#damage = damage;
    this.#places = places;
  }

  /** The packs that anything was found of; `NO_PACK` for chunks that are nowhere. */
  packs(): Set<PackId> {
    const packs = new Set<PackId>();
    for (const { file, kind } of this.#damage.records) {
      const packId = packIdOfPath(this.#root, file);
      if (packId !== undefined && kind !== 'known') packs.add(packId);
      else if (kind === 'missing-chunk') packs.add(NO_PACK);
    }
    return packs;
  }

  /**
   * All that was found of one pack; undefined if nothing was.
   * @param isMet whether it is not known yet whom it touches
   */
  of(packId: PackId, nowMillis: number, isMet: boolean): DamagedPack | undefined {
    const records = packId === NO_PACK ? this.#ofNoPack() : this.#damage.in(packPath(this.#root, packId));
    const found = records.map((index) => this.#damage.records[index]!).filter(({ kind }) => kind !== 'known');
    const [first] = found;
    if (first === undefined) return undefined;
    const parts = this.#places.in(first.file);
    const frames = new Set(parts?.frames.keys());
    for (const record of found)
      if (record.kind === 'map-page') for (const frame of this.#framesAt(packId, record)) frames.add(frame);
    return {
      ...{ packId, sinceMillis: nowMillis, seenMillis: nowMillis, places: found.length, isMet },
      isWhole: found.some((record, at) => OF_ALL.has(record.kind) || isUnplaced(record, records[at]!, parts)),
      isGone: found.every(({ kind }) => kind === 'missing-chunk'),
      frames,
      chunks: new Set(parts?.chunks.keys()),
      problem: first.problem,
      touched: new Set(found.flatMap(touchedBy)),
    };
  }

  #ofNoPack(): number[] {
    return [...this.#damage.records.keys()].filter((index) => {
      const { kind, file } = this.#damage.records[index]!;
      return kind === 'missing-chunk' && packIdOfPath(this.#root, file) === undefined;
    });
  }

  #framesAt(packId: PackId, { offsetBytes }: DamageRecord): number[] {
    try {
      return framesIn(this.#packs.open(packIdBytes(packId)), { offsetBytes, lengthBytes: 1 });
    } catch (error) {
      if (error instanceof VmarError) return [];
      throw error;
    }
  }
}

/** In the tables, that is, and not in a frame. */
function isUnplaced({ kind }: DamageRecord, record: number, parts: DamagedParts | undefined): boolean {
  if (kind !== 'read-error') return false;
  return ![...(parts?.frames.values() ?? [])].some((records) => records.includes(record));
}

function touchedBy({ backups, disks }: DamageRecord): string[] {
  const withDisks = new Set([...disks].map((disk) => disk.slice(0, disk.lastIndexOf(':'))));
  return [...disks, ...[...backups].filter((backup) => !withDisks.has(backup))];
}

/** Of two looks at one pack, neither of which saw all: what either saw. */
export function joinEntries(known: DamagedPack | undefined, found: DamagedPack): DamagedPack {
  if (known === undefined) return found;
  return {
    ...found,
    sinceMillis: known.sinceMillis,
    isWhole: known.isWhole || found.isWhole,
    isGone: known.isGone && found.isGone,
    frames: new Set([...known.frames, ...found.frames]),
    chunks: new Set([...known.chunks, ...found.chunks]),
    places: Math.max(known.places, found.places),
    touched: new Set([...known.touched, ...found.touched]),
    isMet: known.isMet || found.isMet,
  };
}
