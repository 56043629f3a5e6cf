// SPDX-License-Identifier: MIT
// The damage list, state/damage-list: what was found damaged, and which backups that touches. Verify writes it, and so
// does a reader that meets damage; backups and gc heed it. docs/ORDERING.md, "What verify remembers".
//
// Guarantee: a pack's entry is replaced or taken out only by who read all of the pack, or by who finds the pack gone.
// There are two copies, written one after the other, so that a damaged one costs nothing.

import {
  type DamagedPackFields,
  type DamageListFields,
  decodeDamageList,
  encodeDamageList,
} from '../../formats/vmar/damage-list.js';
import type { HashName } from '../../formats/vmar/hash.js';
import { placesOf, runsOf } from '../../formats/vmar/runs.js';
import { asBuffer, compareBytes, fromHex, toHex } from '../base/bytes.js';
import { BugError, VmarError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { PackId } from './layout.js';
import type { Session, SessionPlace } from './session.js';
import { changingState, readStateFile, statePath, writeStateFiles } from './state-file.js';

/** Stands for chunks that are in no pack at all. */
export const NO_PACK: PackId = '0'.repeat(32);

/** More than this in one pack, and nothing of it is counted on. */
const MOST_FRAMES = 4096;
const MOST_CHUNKS = 4096;
/** In all packs together: some MiB. */
const MOST_NUMBERS = 1 << 19;
/** Names of disks are left out beyond this. */
const MOST_TOUCHED = 1 << 17;

export interface DamagedPack {
  readonly packId: PackId;
  readonly sinceMillis: number;
  readonly seenMillis: number;
  /** Nothing of the pack can be counted on. */
  readonly isWhole: boolean;
  /** The pack is not there, and chunks of it that backups need are nowhere else. */
  readonly isGone: boolean;
  /** Numbers of frames. */
  readonly frames: ReadonlySet<number>;
  /** Ids of single chunks, in hex. */
  readonly chunks: ReadonlySet<string>;
  /** The first place that was found. */
  readonly problem: string;
  readonly places: number;
  /** `BACKUP` or `BACKUP:DISK`. */
  readonly touched: ReadonlySet<string>;
  /** Found by a reader: all that is damaged, and whom it touches, verify tells. */
  readonly isMet: boolean;
}

export function damageListPaths(root: string): readonly [list: string, copy: string] {
  return [statePath(root, 'damage-list'), statePath(root, 'damage-list.copy')];
}

export class KnownDamage {
  static readonly NONE = new KnownDamage([]);
  readonly packs: ReadonlyMap<PackId, DamagedPack>;
  #backups: Map<string, string[]> | undefined;

  constructor(packs: Iterable<DamagedPack>) {
    this.packs = new Map([...packs].map((pack) => [pack.packId, pack]));
  }

  get isEmpty(): boolean {
    return this.packs.size === 0;
  }

  /** Whether a chunk is not to be counted on where a pack's own table has it. */
  isAt(packId: PackId, frame: number, id: Uint8Array): boolean {
    const pack = this.packs.get(packId);
    if (pack === undefined) return false;
    return pack.isWhole || pack.frames.has(frame) || (pack.chunks.size > 0 && pack.chunks.has(toHex(id)));
  }

  /** Whether a backup, by its full id, is touched. */
  isDamaged(backup: string): boolean {
    return this.#touched.has(backup);
  }

  /** The disks of a backup that are touched. */
  disksOf(backup: string): readonly string[] {
    return this.#touched.get(backup) ?? [];
  }

  /** The backups that are touched. */
  get backups(): Iterable<string> {
    return this.#touched.keys();
  }

  get #touched(): Map<string, string[]> {
    if (this.#backups !== undefined) return this.#backups;
    const backups = new Map<string, string[]>();
    for (const name of new Set([...this.packs.values()].flatMap(({ touched }) => [...touched]))) {
      const [backup, disk] = splitTouched(name);
      const disks = backups.get(backup) ?? [];
      backups.set(backup, disks);
      if (disk !== undefined) disks.push(disk);
    }
    this.#backups = backups;
    return backups;
  }
}

/** Times have colons, but are followed by no slash; the name of a disk has none. */
export function splitTouched(name: string): [backup: string, disk: string | undefined] {
  const end = name.indexOf('Z:', name.lastIndexOf('/'));
  return end < 0 ? [name, undefined] : [name.slice(0, end + 1), name.slice(end + 2)];
}

/**
 * What is known to be damaged. Where one copy is damaged the other is taken; where both are, nothing is known, which `log`
 * says: verify reports it, and finds all damage anew.
 */
export async function readDamage(root: string, log: Log): Promise<KnownDamage> {
  let failure: VmarError | undefined;
  for (const path of damageListPaths(root)) {
    try {
      const fields = await readStateFile(path, decodeDamageList);
      if (fields !== undefined) return fromFields(fields);
      if (failure === undefined) return KnownDamage.NONE;
    } catch (error) {
      if (!(error instanceof VmarError)) throw error;
      failure ??= error;
    }
  }
  if (failure !== undefined) {
    log.warn(`${failure.message} (${failure.object ?? root}); what is damaged is not known. Run \`vmar verify\``);
  }
  return KnownDamage.NONE;
}

function fromFields({ packs, touched }: DamageListFields): KnownDamage {
  return new KnownDamage(
    packs.map(({ packId, frames, chunks, touches, ...pack }) => ({
      ...pack,
      packId: toHex(packId),
      frames: new Set(frames),
      chunks: new Set(idsIn(chunks)),
      touched: new Set(placesOf(touches).flatMap((at) => touched[at] ?? [])),
    })),
  );
}

function* idsIn(chunks: Uint8Array): Generator<string> {
  for (let at = 0; at < chunks.byteLength; at += 32) yield toHex(chunks.subarray(at, at + 32));
}

type DamagePlace = SessionPlace & {
  checkWritable(): void;
  readonly superblock: { readonly hash: HashName };
};

/** Changes the stored list: `change` gets what is stored and gives what is to be. Whether that could be done. */
export async function changeDamage(
  store: DamagePlace,
  session: Session,
  change: (known: KnownDamage) => Iterable<DamagedPack>,
): Promise<boolean> {
  return await changingState(store, session, async () => {
    const before = await readDamage(store.root, store.log);
    const after = bounded([...change(before)]);
    if (before.isEmpty && after.length === 0 && (await hasNoDamagedCopy(store.root))) return;
    const bytes = encodeDamageList(toFields(after), store.superblock.hash);
    await writeStateFiles(store, session, new Map(damageListPaths(store.root).map((path) => [path, bytes])));
  });
}

async function hasNoDamagedCopy(root: string): Promise<boolean> {
  try {
    for (const path of damageListPaths(root)) await readStateFile(path, decodeDamageList);
    return true;
  } catch (error) {
    if (error instanceof VmarError) return false;
    throw error;
  }
}

/** What is too much to list becomes a pack of which nothing counts. */
function bounded(packs: readonly DamagedPack[]): DamagedPack[] {
  let numbers = 0;
  return packs.map((pack) => {
    const { frames, chunks } = pack;
    numbers += frames.size + chunks.size * 8;
    const isTooMuch = frames.size > MOST_FRAMES || chunks.size > MOST_CHUNKS || numbers > MOST_NUMBERS;
    return pack.isWhole || isTooMuch ? { ...pack, isWhole: true, frames: new Set(), chunks: new Set() } : pack;
  });
}

function toFields(packs: readonly DamagedPack[]): DamageListFields {
  const nameOf = touchedNames(packs);
  const names = new Set(packs.flatMap(({ touched }) => [...touched].map(nameOf)));
  const touched = [...names].sort((a, b) => compareBytes(Buffer.from(a), Buffer.from(b)));
  const places = new Map(touched.map((name, at) => [name, at]));
  const sorted = [...packs].sort((a, b) => (a.packId < b.packId ? -1 : 1));
  return { touched, packs: sorted.map((pack) => packFields(pack, (name) => places.get(nameOf(name))!)) };
}

function touchedNames(packs: readonly DamagedPack[]): (name: string) => string {
  const count = new Set(packs.flatMap(({ touched }) => [...touched])).size;
  return count > MOST_TOUCHED ? (name) => splitTouched(name)[0] : (name) => name;
}

function packFields(pack: DamagedPack, placeOf: (name: string) => number): DamagedPackFields {
  const packId = fromHex(pack.packId, 16);
  if (packId === undefined) throw new BugError(`not the id of a pack: ${pack.packId}`);
  const places = new Set([...pack.touched].map(placeOf));
  return {
    ...pack,
    packId,
    frames: [...pack.frames].sort((a, b) => a - b),
    chunks: asBuffer(Buffer.from([...pack.chunks].sort().join(''), 'hex')),
    touches: runsOf([...places].sort((a, b) => a - b)),
  };
}
