// SPDX-License-Identifier: MIT
// Restoring from a datastore that is damaged: what is good comes back to the byte, what is lost is never made up, and
// --allow-damaged tells exactly which ranges are zeros instead.

import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { DamageError } from '#vmar/src/base/errors.js';
import { CLUSTER, type MemoryDisk, World } from '../archive/world.js';
import { scratchDirectory } from '../base/scratch.js';
import { type Anatomy, dissect, type LostRange, type Part, rangesWithout } from './anatomy.js';
import { inLanes, type Lane, whileFlipped } from './lanes.js';
import { restoreTo } from './restoring.js';
import {
  backUp,
  diskOf,
  FANOUT,
  filled,
  makeTinyStore,
  NEIGHBOUR,
  NIGHT_1,
  TINY_BACKUPS,
  tinyBackup,
} from './tiny-store.js';
import { dropIndex, lostDisks } from './truth.js';

const base = scratchDirectory();
let world: World;
let anatomy: Anatomy;
let lanes = 0;

beforeAll(async () => {
  world = await makeTinyStore(join(base, 'original'));
  anatomy = dissect(world.root);
});

async function complaints<Task>(
  original: World,
  tasks: readonly Task[],
  work: (lane: Lane, task: Task) => Promise<string | undefined>,
) {
  return (await inLanes(original, join(base, `lanes${lanes++}`), tasks, work)).slice(0, 10);
}

function without(content: Uint8Array, lost: readonly LostRange[]): Buffer {
  const copy = Buffer.from(content);
  for (const { offsetBytes, lengthBytes } of lost) copy.fill(0, offsetBytes, offsetBytes + lengthBytes);
  return copy;
}

let files = 0;

/** Restores a disk to a new file and over an old one; what is wrong with that. */
async function judgeAllowed(
  lane: Lane,
  backup: string,
  disk: MemoryDisk,
  lost: readonly LostRange[],
): Promise<string | undefined> {
  const expected = without(disk.content, lost);
  for (const isNew of [true, false]) {
    const target = join(lane.world.base, `target${files++}`);
    if (!isNew) writeFileSync(target, Buffer.alloc(disk.content.byteLength + 100, 0xff));
    const wish = { backup, targets: { [disk.name]: target }, allowDamaged: true, overwrite: !isNew };
    const { damaged, disks } = await restoreTo(lane.world, wish);
    const told = damaged.map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes }));
    if (JSON.stringify(told) !== JSON.stringify(lost))
      return `told is ${JSON.stringify(told)}, lost ${JSON.stringify(lost)}`;
    if (damaged.some((range) => range.disk !== disk.name || range.problem === ''))
      return 'a damaged range has no disk or problem';
    const content = readFileSync(target);
    if (!content.subarray(0, expected.length).equals(expected))
      return `what came back is wrong (${isNew ? 'new' : 'old'} file)`;
    if (!isNew && !content.subarray(expected.length).equals(Buffer.alloc(100, 0xff)))
      return 'something was written past the disk';
    const bytes =
      disks[0]!.writtenBytes + disks[0]!.zeroBytes + lost.reduce((sum, range) => sum + range.lengthBytes, 0);
    if (bytes !== disk.content.byteLength) return `the summary accounts for ${bytes} bytes`;
    rmSync(target);
  }
  return undefined;
}

/** A restore that may not go on past damage. */
async function judgeRefused(lane: Lane, backup: string, disk: MemoryDisk): Promise<string | undefined> {
  const target = join(lane.world.base, `target${files++}`);
  const error = await restoreTo(lane.world, { backup, targets: { [disk.name]: target } }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof DamageError)) return `it should have ended with damage: ${String(error)}`;
  if (error.object === undefined || error.advice === undefined)
    return `it does not say where, or what to do: ${error.message}`;
  return existsSync(target) ? 'a file was left behind' : undefined;
}

async function judge(lane: Lane, part: Part, at: number): Promise<string | undefined> {
  const ids = new Set(part.name === 'extent head' ? [] : part.ids);
  return await whileFlipped(lane.here(part.file), at, 0xff, async () => {
    for (const { name, disks } of TINY_BACKUPS) {
      for (const disk of disks) {
        const lost = rangesWithout(anatomy, world.root, name, disk.name, ids);
        // Without an index: then nothing but the packs can tell.
        dropIndex(lane.world);
        const complaint =
          (await judgeAllowed(lane, name, disk, lost)) ??
          (lost.length > 0 ? await judgeRefused(lane, name, disk) : undefined);
        if (complaint !== undefined)
          return `${part.name} of ${basename(part.file)} at ${at}, ${name}:${disk.name}: ${complaint}`;
      }
    }
    return undefined;
  });
}

describe('a restore past damage', () => {
  it('loses exactly what the damaged structure holds, whichever it is', async () => {
    const parts = anatomy.parts.filter((part) => part.file.includes('/packs/'));
    const work = async (lane: Lane, part: Part) => await judge(lane, part, (part.from + part.to) >>> 1);
    expect(await complaints(world, parts, work)).toEqual([]);
  });

  it('loses exactly what a pack held that is gone', async () => {
    const headers = anatomy.parts.filter((part) => part.name === 'header');
    const work = async (lane: Lane, part: Part): Promise<string | undefined> => {
      rmSync(lane.here(part.file));
      try {
        for (const { name, disks } of TINY_BACKUPS) {
          const lost = rangesWithout(anatomy, world.root, name, disks[0]!.name, new Set(part.ids));
          const complaint = await judgeAllowed(lane, name, disks[0]!, lost);
          if (complaint !== undefined) return `${basename(part.file)} gone, ${name}: ${complaint}`;
        }
        return undefined;
      } finally {
        cpSync(part.file, lane.here(part.file));
      }
    };
    expect(await complaints(world, headers, work)).toEqual([]);
  });

  it('needs the index for nothing: one from before the damage finds no more and no less wrong', async () => {
    const frames = anatomy.parts.filter((part) => part.name === 'frame' && part.isData);
    const work = async (lane: Lane, part: Part): Promise<string | undefined> =>
      await whileFlipped(lane.here(part.file), part.from, 0x01, async () => {
        const { disks } = tinyBackup(NIGHT_1);
        const lost = rangesWithout(anatomy, world.root, NIGHT_1, 'a', new Set(part.ids));
        return await judgeAllowed(lane, NIGHT_1, disks[0]!, lost);
      });
    expect(await complaints(world, frames, work)).toEqual([]);
  });
});

describe('a restore of several disks', () => {
  // Two chunks fill a frame, so what the disks hold lies in two.
  const good = { name: 'good', content: diskOf(3 * CLUSTER, { 1: filled('good'), 2: filled('better') }) };
  const bad = { name: 'bad', content: diskOf(3 * CLUSTER, { 2: filled('bad') }) };
  const name = 'vm/7/2026-01-01T00:00:00Z';

  it('leaves none of its new files behind when one disk is damaged, and keeps what was there before', async () => {
    const several = await World.create(join(base, 'several'), { mapFanout: FANOUT });
    await backUp(several, { name, disks: [good, bad] });
    const { parts } = dissect(several.root);
    const frame = parts.find((part) => part.isData && [...part.disks].join() === `${name}:bad`)!;
    const targets = { good: join(several.base, 'good.raw'), bad: join(several.base, 'bad.raw') };
    await whileFlipped(frame.file, frame.from, 0xff, async () => {
      await expect(restoreTo(several, { backup: name, targets })).rejects.toBeInstanceOf(DamageError);
      expect(readdirSync(several.base).filter((entry) => entry.endsWith('.raw'))).toEqual([]);
      writeFileSync(targets.bad, Buffer.alloc(bad.content.byteLength, 7));
      await expect(restoreTo(several, { backup: name, targets, overwrite: true })).rejects.toBeInstanceOf(DamageError);
      expect(readdirSync(several.base).filter((entry) => entry.endsWith('.raw'))).toEqual(['bad.raw']);
    });
    rmSync(targets.bad);
    await restoreTo(several, { backup: name, targets });
    expect(readFileSync(targets.good).equals(good.content)).toBe(true);
    expect(readFileSync(targets.bad).equals(bad.content)).toBe(true);
  });
});

describe('a chunk that lies in two packs', () => {
  const one = { name: NIGHT_1, disks: [{ name: 'a', content: diskOf(2 * CLUSTER, { 0: filled('both') }) }] };
  const other = { name: NEIGHBOUR, disks: [{ name: 'b', content: diskOf(3 * CLUSTER, { 2: filled('both') }) }] };

  /** Two copies of one datastore that grew apart, put together: as two hosts with no index in common would leave it. */
  async function grownTogether(): Promise<World> {
    const here = await World.create(join(base, 'here'), { mapFanout: FANOUT });
    const there = World.at(join(base, 'there'), here.options);
    cpSync(here.root, there.root, { recursive: true });
    await backUp(here, one);
    await backUp(there, other);
    for (const directory of ['packs', 'manifests']) {
      cpSync(join(there.root, directory), join(here.root, directory), { recursive: true });
    }
    return here;
  }

  it('is restored from the good one, and nobody is concerned by the damage', async () => {
    const both = await grownTogether();
    const frames = dissect(both.root).parts.filter((part) => part.isData);
    expect(frames).toHaveLength(2);
    expect(frames[0]!.ids).toEqual(frames[1]!.ids);
    const work = async (lane: Lane, part: Part): Promise<string | undefined> => {
      return await whileFlipped(lane.here(part.file), part.from + 3, 0x10, async () => {
        for (const hasIndex of [true, false]) {
          if (!hasIndex) dropIndex(lane.world);
          const lost = await lostDisks(lane.world, [one, other]);
          const { damage } = await lane.world.verify();
          const isRight = damage.length === 1 && damage[0]!.kind === 'frame' && damage[0]!.backups.size === 0;
          if (!isRight || lost.size > 0) return `${hasIndex}: ${[...lost]} lost, ${JSON.stringify(damage)}`;
        }
        return undefined;
      });
    };
    expect(await complaints(both, frames, work)).toEqual([]);
    const gone = async (lane: Lane, part: Part): Promise<string | undefined> => {
      rmSync(lane.here(part.file));
      const lost = await lostDisks(lane.world, [one, other]);
      const { damage } = await lane.world.verify();
      cpSync(part.file, lane.here(part.file));
      return lost.size === 0 && damage.length === 0 ? undefined : JSON.stringify(damage);
    };
    expect(await complaints(both, frames, gone)).toEqual([]);
  });
});
