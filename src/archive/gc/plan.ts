// SPDX-License-Identifier: MIT
// What is to become of each pack: nothing is done here.

import type { GcPack } from './gc-packs.js';

export type Fate =
  /** Nobody needs anything of it. */
  | 'dead'
  /** Much of it is unused: what is needed is written anew. */
  | 'sparse'
  /** One of many small ones, to be joined. */
  | 'small'
  /** Damaged; what is needed of it can be had, there or elsewhere. */
  | 'damaged';

export interface PlannedPack {
  readonly pack: GcPack;
  readonly fate: Fate;
}

export interface Plan {
  /** Nobody needs anything of them; those that cannot be opened only if nothing is missed. */
  readonly dead: readonly GcPack[];
  /** In the order in which they are to be written, data and maps apart. */
  readonly rewrite: readonly PlannedPack[];
}

export interface PlanOptions {
  /** Which part of all that is kept may be unused, 0 to 1. */
  readonly mostUnused: number;
  /** Packs made since then are left alone: a backup that runs may be about to name them. */
  readonly untilMillis: number;
}

/** Packs larger than this are no small ones; four make the largest pack. */
const SMALL_BYTES = 32 << 20;
const SMALL_CHUNKS = 16384;
/** So many small packs of about one size are joined: each byte is written anew only a few times in its life. */
const JOINED = 8;
/** Sizes in one class differ by this factor at most. */
const CLASS_FACTOR = 8;
const SMALLEST_CLASS_BYTES = 256 << 10;

export function planCollection(packs: readonly GcPack[], options: PlanOptions): Plan {
  const mine = packs.filter((pack) => pack.isCandidate && !pack.isCondemned && pack.madeMillis < options.untilMillis);
  const dead = mine.filter(isDead);
  const damaged = mine.filter((pack) => !isDead(pack) && pack.damage !== undefined);
  const rest = mine.filter((pack) => !isDead(pack) && pack.damage === undefined);
  const sparse = chooseSparse(rest, packs, options.mostUnused);
  const small = chooseSmall(rest.filter((pack) => !sparse.has(pack)));
  const rewrite: PlannedPack[] = [
    ...damaged.map((pack) => ({ pack, fate: 'damaged' as const })),
    ...[...sparse].map((pack) => ({ pack, fate: 'sparse' as const })),
    ...small.map((pack) => ({ pack, fate: 'small' as const })),
  ];
  rewrite.sort((a, b) => compareForWriting(a.pack, b.pack));
  return { dead, rewrite };
}

export function isDead(pack: GcPack): boolean {
  return pack.liveChunks === 0 && pack.manifests === 0;
}

/** Maps first: they are small. Then as they were made, so that what was backed up together stays together. */
function compareForWriting(a: GcPack, b: GcPack): number {
  if (a.content !== b.content) return a.content === 'maps' ? -1 : 1;
  return a.createdSeconds - b.createdSeconds || (a.id < b.id ? -1 : 1);
}

function unusedBytes(pack: GcPack): number {
  return Math.max(0, pack.storedBytes - pack.liveBytes);
}

/** The emptiest packs, as many as it takes until what is unused in the others is within bounds. */
function chooseSparse(candidates: readonly GcPack[], all: readonly GcPack[], mostUnused: number): Set<GcPack> {
  const kept = all.filter((pack) => !pack.isCondemned && !isDead(pack));
  let unused = kept.reduce((sum, pack) => sum + unusedBytes(pack), 0);
  let stored = kept.reduce((sum, pack) => sum + pack.storedBytes, 0);
  const chosen = new Set<GcPack>();
  const emptiestFirst = candidates
    .filter((pack) => pack.content !== 'both' && unusedBytes(pack) > 0)
    .sort((a, b) => unusedBytes(b) / b.storedBytes - unusedBytes(a) / a.storedBytes);
  for (const pack of emptiestFirst) {
    if (unused <= mostUnused * stored) break;
    chosen.add(pack);
    unused -= unusedBytes(pack);
    stored -= unusedBytes(pack);
  }
  return chosen;
}

function chooseSmall(candidates: readonly GcPack[]): GcPack[] {
  const classes = new Map<string, GcPack[]>();
  for (const pack of candidates) {
    if (pack.content === 'both' || pack.fileBytes >= SMALL_BYTES || pack.chunkCount >= SMALL_CHUNKS) continue;
    const size = Math.max(1, pack.fileBytes / SMALLEST_CLASS_BYTES);
    const name = `${pack.content} ${Math.floor(Math.log(size) / Math.log(CLASS_FACTOR))}`;
    const members = classes.get(name);
    if (members === undefined) classes.set(name, [pack]);
    else members.push(pack);
  }
  return [...classes.values()].filter((members) => members.length >= JOINED).flat();
}
