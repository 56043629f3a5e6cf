// SPDX-License-Identifier: MIT
// No byte of a datastore can change without `verify` saying so, in the right file, at the right place, with the names of
// those who need it and of nobody else.

import { mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { DamageKind, VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { DamageError } from '#vmar/src/base/errors.js';
import type { World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { type Anatomy, dissect, filesIn, type Part, type PartName } from './anatomy.js';
import { inLanes, inWords, type Lane, whileFlipped } from './lanes.js';
import { makeTinyStore, TINY_BACKUPS, type TinyBackup } from './tiny-store.js';

const base = scratchDirectory();
const random = seededRandom(2026);
/** Complaints: enough to see what is the matter. */
const SHOWN = 12;

const KINDS: Readonly<Record<PartName, DamageKind>> = {
  superblock: 'superblock',
  manifest: 'manifest',
  sidecar: 'sidecar',
  header: 'container',
  'extent head': 'extent',
  frame: 'frame',
  'chunk page': 'table',
  'frame page': 'table',
  footer: 'container',
};

interface Subject {
  readonly world: World;
  readonly anatomy: Anatomy;
}

/** Two backups of two guests, for what is tried on every byte; and three, with one that mostly rests on another. */
let two: Subject;
let three: Subject;

async function subject(name: string, backups: readonly TinyBackup[]): Promise<Subject> {
  const world = await makeTinyStore(join(base, name), backups);
  return { world, anatomy: dissect(world.root) };
}

beforeAll(async () => {
  two = await subject('two', TINY_BACKUPS.slice(0, 2));
  three = await subject('three', TINY_BACKUPS);
});

interface Flip {
  readonly part: Part;
  readonly offset: number;
  readonly mask: number;
}

function everyByte(parts: readonly Part[]): Flip[] {
  return parts.flatMap((part) =>
    Array.from({ length: part.to - part.from }, (_, i) => ({ part, offset: part.from + i, mask: 0xff })),
  );
}

/** What is wrong with what verify says about one flipped byte; undefined if nothing is. */
function judge(lane: Lane, { part, offset }: Flip, report: VerifyReport): string | undefined {
  const [record, ...more] = report.damage;
  if (record === undefined) return 'nothing was found';
  if (more.length > 0) return 'one thing was told as several';
  if (lane.there(record.file) !== part.file) return 'the wrong file was named';
  if (record.kind !== KINDS[part.name]) return 'the wrong kind was told';
  if (record.offsetBytes !== part.from) return 'the wrong offset was told';
  if (offset >= record.offsetBytes + record.lengthBytes) return 'the range that was told is too short';
  if (!sameSet(record.backups, part.backups)) return `the wrong backups were named, not ${[...part.backups]}`;
  if (!sameSet(record.disks, part.disks)) return `the wrong disks were named, not ${[...part.disks]}`;
  return undefined;
}

function sameSet(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((value) => b.has(value));
}

async function tryFlip(lane: Lane, flip: Flip, mode: 'full' | 'quick' = 'full'): Promise<string | undefined> {
  const file = lane.here(flip.part.file);
  const where = `${flip.part.name} of ${file.slice(-16)} at ${flip.offset} ^ ${flip.mask}`;
  try {
    const report = await whileFlipped(file, flip.offset, flip.mask, async () => await lane.world.verify(mode));
    if (mode === 'quick' && flip.part.isData && report.damage.length === 0) return undefined;
    const complaint = judge(lane, flip, report);
    return complaint === undefined ? undefined : `${where}: ${complaint}: ${inWords(report)}`;
  } catch (error) {
    const told = flip.part.name === 'superblock' && error instanceof DamageError && error.object === file;
    return told ? undefined : `${where}: ${String(error)}`;
  }
}

/** Tries all flips on copies of the datastore; gives some of what went wrong. */
async function complaintsOf(
  { world }: Subject,
  flips: readonly Flip[],
  mode: 'full' | 'quick' = 'full',
): Promise<string[]> {
  const copies = mkdtempSync(join(base, 'copies-'));
  const complaints = await inLanes(world, copies, flips, async (lane, flip) => await tryFlip(lane, flip, mode));
  return complaints.slice(0, SHOWN);
}

function someBits({ anatomy }: Subject, oneIn: number): Flip[] {
  const chosen = everyByte(anatomy.parts).filter(() => random.oneIn(oneIn));
  return chosen.map((flip) => ({ ...flip, mask: 1 << random.integer(0, 7) }));
}

describe('one byte of a datastore', () => {
  it('belongs to one structure, whatever byte it is', () => {
    const { world, anatomy } = three;
    for (const name of filesIn(world.root)) {
      const file = join(world.root, name);
      let at = 0;
      for (const part of anatomy.parts.filter((candidate) => candidate.file === file)) {
        expect(part.from).toBe(at);
        at = part.to;
      }
      expect(at).toBe(readFileSync(file).length);
    }
    const names = new Set(anatomy.parts.map((part) => part.name));
    expect([...names].sort()).toEqual(Object.keys(KINDS).sort());
  });

  it('is missed when it changes, and what it belongs to is named, with all who need it', {
    timeout: 400_000,
  }, async () => {
    const { parts } = two.anatomy;
    expect(await complaintsOf(two, everyByte(parts))).toEqual([]);
  });

  it('is missed when one bit of it changes, also where backups share what it belongs to', async () => {
    expect(await complaintsOf(three, someBits(three, 10))).toEqual([]);
  });

  it('is missed by a quick check too, unless it is in a frame of data', async () => {
    expect(await complaintsOf(three, someBits(three, 10), 'quick')).toEqual([]);
  });
});
