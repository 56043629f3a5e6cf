// SPDX-License-Identifier: MIT
// Files that are cut, gone, longer, in each other's place: always found, never blamed on those whom it does not concern.
// Who is concerned is found out by restoring everything, with and without an index.

import { cpSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { DamageRecord, VerifyReport } from '#vmar/src/archive/verify/damage.js';
import { DamageError } from '#vmar/src/base/errors.js';
import type { World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { scratchDirectory } from '../base/scratch.js';
import { type Anatomy, dissect, type Part } from './anatomy.js';
import { inLanes, inWords, type Lane, whileFlipped, whileHolding } from './lanes.js';
import { makeTinyStore, NEIGHBOUR, NIGHT_1, NIGHT_2, TINY_BACKUPS } from './tiny-store.js';
import { backupsOf, dropIndex, lostDisks } from './truth.js';

const base = scratchDirectory();
const random = seededRandom(7);
let world: World;
let anatomy: Anatomy;
let lanes = 0;

beforeAll(async () => {
  world = await makeTinyStore(join(base, 'original'));
  anatomy = dissect(world.root);
});

async function complaints<Task>(tasks: readonly Task[], work: (lane: Lane, task: Task) => Promise<string | undefined>) {
  return (await inLanes(world, join(base, `lanes${lanes++}`), tasks, work)).slice(0, 10);
}

function filesOf(name: Part['name']): string[] {
  return [...new Set(anatomy.parts.filter((part) => part.name === name).map((part) => part.file))];
}

function packs(): string[] {
  return filesOf('header');
}

/** Everyone for whom anything lies in a pack. */
function needyOf(pack: string): Part {
  return anatomy.parts.find((part) => part.file === pack && part.name === 'header')!;
}

function union(records: readonly DamageRecord[], of: 'backups' | 'disks'): Set<string> {
  return new Set(records.flatMap((record) => [...record[of]]));
}

function isSubset(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return [...a].every((value) => b.has(value));
}

/** What is wrong with a report on damage to some files, by those who turned out to be lost and those who need the files. */
function judge(lane: Lane, report: VerifyReport, files: readonly string[], lost: Set<string>, needy: readonly Part[]) {
  const named = new Set(report.damage.map((record) => lane.there(record.file)));
  if (report.damage.length === 0) return 'nothing was found';
  if (!files.some((file) => named.has(file))) return `the wrong file was named: ${inWords(report)}`;
  if (!isSubset(named, new Set(files))) return `other files were named: ${inWords(report)}`;
  if (!isSubset(lost, union(report.damage, 'disks'))) return `${[...lost]} are lost: ${inWords(report)}`;
  const concerned = new Set(needy.flatMap((part) => [...part.backups]));
  if (!isSubset(union(report.damage, 'backups'), concerned)) return `backups were blamed: ${inWords(report)}`;
  return undefined;
}

/** Verifies and restores, as it is and without an index. */
async function judgeTwice(lane: Lane, files: readonly string[]): Promise<string | undefined> {
  const needy = files.map(needyOf);
  for (const hasIndex of [true, false]) {
    if (!hasIndex) dropIndex(lane.world);
    const report = await lane.world.verify();
    const lost = await lostDisks(lane.world, TINY_BACKUPS);
    const complaint = judge(lane, report, files, lost, needy);
    if (complaint !== undefined)
      return `${files.map((file) => basename(file))} ${hasIndex ? 'with' : 'without'} index: ${complaint}`;
  }
  return undefined;
}

describe('damage in one structure', () => {
  it('is told of exactly those whom a restore cannot give back', async () => {
    const parts = anatomy.parts.filter((part) => packs().includes(part.file));
    const work = async (lane: Lane, part: Part): Promise<string | undefined> => {
      const at = random.integer(part.from, part.to - 1);
      return await whileFlipped(lane.here(part.file), at, 0xff, async () => {
        dropIndex(lane.world);
        const lost = await lostDisks(lane.world, TINY_BACKUPS);
        const report = await lane.world.verify();
        const named = union(report.damage, 'disks');
        // What the heads of extents say is said again by the tables, so nothing is lost with one.
        const isExact = part.name === 'extent head' ? lost.size === 0 : isSubset(named, lost);
        const text = `${part.name} of ${basename(part.file)} at ${at}: ${[...lost]} are lost, told is ${inWords(report)}`;
        return isSubset(lost, named) && isExact ? undefined : text;
      });
    };
    expect(await complaints(parts, work)).toEqual([]);
  });
});

describe('a pack', () => {
  it('that was cut is damaged, at any length', async () => {
    const tasks = packs().flatMap((pack) => {
      const bytes = readFileSync(pack);
      const lengths = [0, 1, 255, 256, 383, 384, bytes.length - 129, bytes.length - 128, bytes.length - 1];
      for (let n = 0; n < 5; n++) lengths.push(random.integer(256, bytes.length - 1));
      return lengths.map((length) => ({ pack, bytes: bytes.subarray(0, length) }));
    });
    const work = async (lane: Lane, { pack, bytes }: (typeof tasks)[0]): Promise<string | undefined> =>
      await whileHolding(lane.here(pack), bytes, async () => {
        const complaint = await judgeTwice(lane, [pack]);
        return complaint === undefined ? undefined : `${bytes.length} bytes: ${complaint}`;
      });
    expect(await complaints(tasks, work)).toEqual([]);
  });

  it('that grew is damaged', async () => {
    const tasks = packs().flatMap((pack) => [1, 127, 128, 5000].map((more) => ({ pack, more })));
    const work = async (lane: Lane, { pack, more }: (typeof tasks)[0]): Promise<string | undefined> =>
      await whileHolding(lane.here(pack), Buffer.concat([readFileSync(pack), random.bytes(more)]), async () => {
        return await judgeTwice(lane, [pack]);
      });
    expect(await complaints(tasks, work)).toEqual([]);
  });

  it('that is all zeros, or all noise, is damaged', async () => {
    const tasks = packs().flatMap((pack) => {
      const { length } = readFileSync(pack);
      return [Buffer.alloc(length), Buffer.from(random.bytes(length))].map((bytes) => ({ pack, bytes }));
    });
    const work = async (lane: Lane, { pack, bytes }: (typeof tasks)[0]): Promise<string | undefined> =>
      await whileHolding(lane.here(pack), bytes, async () => await judgeTwice(lane, [pack]));
    expect(await complaints(tasks, work)).toEqual([]);
  });

  it('that is gone is missed by all who need chunks of it, and named', async () => {
    const work = async (lane: Lane, pack: string): Promise<string | undefined> => {
      rmSync(lane.here(pack));
      try {
        return await judgeTwice(lane, [pack]);
      } finally {
        cpSync(pack, lane.here(pack));
      }
    };
    expect(await complaints(packs(), work)).toEqual([]);
  });

  it('in the place of another is damage to both', async () => {
    const all = packs();
    const tasks = all.map((pack, index) => [pack, all[(index + 1) % all.length]!] as const);
    const work = async (lane: Lane, [a, b]: readonly [string, string]): Promise<string | undefined> =>
      await whileHolding(lane.here(a), readFileSync(b), async () => {
        return await whileHolding(lane.here(b), readFileSync(a), async () => await judgeTwice(lane, [a, b]));
      });
    expect(await complaints(tasks, work)).toEqual([]);
  });

  it('copied over another is damage to the other alone', async () => {
    const all = packs();
    const tasks = all.map((pack, index) => ({ pack, other: all[(index + 1) % all.length]! }));
    const work = async (lane: Lane, { pack, other }: (typeof tasks)[0]): Promise<string | undefined> =>
      await whileHolding(lane.here(pack), readFileSync(other), async () => await judgeTwice(lane, [pack]));
    expect(await complaints(tasks, work)).toEqual([]);
  });

  it('copied to a new name is damage that concerns nobody', async () => {
    const [pack] = packs();
    const work = async (lane: Lane): Promise<string | undefined> => {
      const stray = join(lane.here(pack!), '..', `${basename(pack!).slice(0, 2)}${'0'.repeat(30)}.vmar`);
      cpSync(pack!, stray);
      const report = await lane.world.verify();
      rmSync(stray);
      const [record, ...more] = report.damage;
      const isRight = record?.file === join(stray) && more.length === 0 && record.backups.size === 0;
      return isRight ? undefined : inWords(report);
    };
    expect(await complaints([pack], work)).toEqual([]);
  });
});

describe('a manifest', () => {
  it('that was cut or grew is damaged, at every length, and nobody else is concerned', async () => {
    const tasks = filesOf('manifest').flatMap((file) => {
      const bytes = readFileSync(file);
      const cut = Array.from({ length: bytes.length }, (_, length) => bytes.subarray(0, length)).filter(() =>
        random.oneIn(3),
      );
      return [...cut, Buffer.concat([bytes, Buffer.alloc(1)])].map((changed) => ({ file, changed }));
    });
    const work = async (lane: Lane, { file, changed }: (typeof tasks)[0]): Promise<string | undefined> => {
      const report = await whileHolding(lane.here(file), changed, async () => await lane.world.verify());
      const [record, ...more] = report.damage;
      const isRight = record?.kind === 'manifest' && more.length === 0 && lane.there(record.file) === file;
      return isRight && record.backups.size === 1 ? undefined : `${changed.length} bytes: ${inWords(report)}`;
    };
    expect(await complaints(tasks, work)).toEqual([]);
  });

  it('that is gone is a backup that was forgotten', async () => {
    const work = async (lane: Lane, file: string): Promise<string | undefined> => {
      rmSync(lane.here(file));
      const report = await lane.world.verify();
      cpSync(file, lane.here(file));
      return report.damage.length === 0 && report.checked.backups === 2 ? undefined : inWords(report);
    };
    expect(await complaints(filesOf('manifest'), work)).toEqual([]);
  });

  it('in the place of another is damage, whether it is older, newer or of another guest', async () => {
    const file = (backup: string): string => join(world.root, 'manifests', `${backup}.manifest`);
    const names = [NIGHT_1, NIGHT_2, NEIGHBOUR];
    const tasks = names.flatMap((name) => names.filter((other) => other !== name).map((other) => ({ name, other })));
    const work = async (lane: Lane, { name, other }: (typeof tasks)[0]): Promise<string | undefined> =>
      await whileHolding(lane.here(file(name)), readFileSync(file(other)), async () => {
        const report = await lane.world.verify();
        const [record, ...more] = report.damage;
        const lost = backupsOf(await lostDisks(lane.world, TINY_BACKUPS));
        const isRight = record?.kind === 'manifest' && more.length === 0 && [...record.backups].join() === name;
        return isRight && [...lost].join() === name
          ? undefined
          : `${other} as ${name}: ${inWords(report)}, lost: ${[...lost]}`;
      });
    expect(await complaints(tasks, work)).toEqual([]);
  });
});

describe('a sidecar', () => {
  it('that was cut or grew is damaged, at every length, and the backup can be restored all the same', async () => {
    const [file] = filesOf('sidecar');
    const bytes = readFileSync(file!);
    const tasks = Array.from({ length: bytes.length }, (_, length) => bytes.subarray(0, length));
    tasks.push(Buffer.concat([bytes, Buffer.alloc(7)]));
    const work = async (lane: Lane, changed: Buffer): Promise<string | undefined> => {
      const report = await whileHolding(lane.here(file!), changed, async () => {
        if (changed.length % 40 === 0 && (await lostDisks(lane.world, TINY_BACKUPS)).size > 0) throw new Error('lost');
        return await lane.world.verify();
      });
      const [record, ...more] = report.damage;
      const isRight = record?.kind === 'sidecar' && more.length === 0 && [...record.backups].join() === NIGHT_1;
      return isRight ? undefined : `${changed.length} bytes: ${inWords(report)}`;
    };
    expect(await complaints(tasks, work)).toEqual([]);
  });
});

describe('the superblock', () => {
  it('that was cut, grew or is gone is damage, at every length', async () => {
    const [file] = filesOf('superblock');
    const bytes = readFileSync(file!);
    const tasks: (Buffer | undefined)[] = Array.from({ length: bytes.length }, (_, length) =>
      bytes.subarray(0, length),
    );
    tasks.push(Buffer.concat([bytes, Buffer.alloc(1)]), undefined);
    const work = async (lane: Lane, changed: Buffer | undefined): Promise<string | undefined> => {
      const here = lane.here(file!);
      return await whileHolding(here, changed ?? bytes, async () => {
        if (changed === undefined) rmSync(here);
        const error = await lane.world.open().then(
          () => undefined,
          (reason: unknown) => reason,
        );
        const isRight = error instanceof DamageError && error.object === here;
        return isRight ? undefined : `${changed?.length} bytes: ${String(error)}`;
      });
    };
    expect(await complaints(tasks, work)).toEqual([]);
  });
});
