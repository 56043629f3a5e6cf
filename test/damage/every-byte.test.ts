// SPDX-License-Identifier: MIT
// No byte of a datastore can change without `verify` saying so, in the right file, at the right place, with the names of
// those who need it and of nobody else.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { DamageKind, VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { DamageError } from '#vmar/src/base/errors.js';
import type { World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { type Anatomy, dissect, filesIn, type Part, type PartName } from './anatomy.js';
import { inLanes, inWords, type Lane, whileFlipped } from './lanes.js';
import { makeTinyStore } from './tiny-store.js';

const base = scratchDirectory();
const random = seededRandom(2026);

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

let world: World;
let anatomy: Anatomy;

beforeAll(async () => {
  world = await makeTinyStore(join(base, 'original'));
  anatomy = dissect(world.root);
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
    if (mode === 'quick' && flip.part.name === 'frame' && report.damage.length === 0) return undefined;
    const complaint = judge(lane, flip, report);
    return complaint === undefined ? undefined : `${where}: ${complaint}: ${inWords(report)}`;
  } catch (error) {
    const told = flip.part.name === 'superblock' && error instanceof DamageError && error.object === file;
    return told ? undefined : `${where}: ${String(error)}`;
  }
}

describe('one byte of a datastore', () => {
  it('belongs to one structure, whatever byte it is', () => {
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

  it('is missed when it changes, and what it belongs to is named, with all who need it', async () => {
    const flips = everyByte(anatomy.parts);
    expect(await inLanes(world, join(base, 'bytes'), flips, tryFlip)).toEqual([]);
  });

  it('is missed when one bit of it changes', async () => {
    const flips = everyByte(anatomy.parts)
      .filter(() => random.oneIn(12))
      .map((flip) => ({ ...flip, mask: 1 << random.integer(0, 7) }));
    expect(await inLanes(world, join(base, 'bits'), flips, tryFlip)).toEqual([]);
  });
});
