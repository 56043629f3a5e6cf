// SPDX-License-Identifier: MIT
// A disk that is full or fails, exhaustively: every single file operation of a backup fails in turn.

import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openArchiveVault } from '#vmar/src/archive/archive-vault.js';
import { exportArchive } from '#vmar/src/archive/export-archive.js';
import type { Machine } from '#vmar/src/archive/machine.js';
import { openArchive } from '#vmar/src/archive/open-backup.js';
import type { Vault } from '#vmar/src/archive/vault.js';
import { verifyArchive } from '#vmar/src/archive/verify/verify-archive.js';
import { VmarError } from '#vmar/src/base/errors.js';
import { type CreateOptions, type StoreFile, storeFailure } from '#vmar/src/store/fs.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { makeArchive } from '../archive/one-backup.js';
import { CLUSTER, describe as describeDisks, dumpInto, World } from '../archive/world.js';
import { seededRandom } from '../base/random.js';
import { type Fault, FaultFs } from '../store/fault-fs.js';
import { memoryDirectory } from './memory-directory.js';
import { backUpNight, expectSound, expectSwept, leaveDeadSession, nightOf } from './nights.js';

const scratch = memoryDirectory();
const first = nightOf('100', 0);
const second = nightOf('100', 1);
const MIB = 1 << 20;
let worlds = 0;

async function worldWithFirst(): Promise<World> {
  const world = await World.create(join(scratch, `world-${worlds++}`));
  await backUpNight(world, first);
  return world;
}

/** A copy of the world as it is, to be spoilt. */
function copyOf(world: World): World {
  const base = join(scratch, `copy-${worlds++}`);
  mkdirSync(base);
  cpSync(world.root, join(base, 'store'), { recursive: true });
  return World.at(base);
}

async function failureOf(action: () => Promise<unknown>): Promise<unknown> {
  try {
    await action();
    return undefined;
  } catch (error) {
    return error;
  }
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

const KINDS: readonly Omit<Fault, 'at'>[] = [
  { code: 'ENOSPC' },
  { code: 'EIO' },
  { code: 'ENOSPC', partBytes: 100 },
  { code: 'ENOSPC', partBytes: 1, lasting: true },
  { code: 'EIO', lasting: true },
];

describe.each(KINDS)('%o at every operation of a backup', (kind) => {
  it('ends it with a clear error, and leaves the datastore as it was', async () => {
    const origin = await worldWithFirst();
    let failed = 0;
    let done = 0;
    for (let at = 1; ; at++) {
      const world = copyOf(origin);
      const faults = new FaultFs(new RealFs(), { ...kind, at });
      const filesBefore = openFiles();
      const error = await failureOf(() => backUpNight(World.at(world.base, { fs: faults }), second));
      if (!faults.fired) break;
      const story = `operation ${at}, ${faults.seen[at - 1]}`;
      expect(openFiles(), `${story}: files left open`).toBe(filesBefore);
      if (error === undefined) done++;
      else {
        failed++;
        expect(error, story).toBeInstanceOf(VmarError);
        expect((error as VmarError).exitStatus, story).toBe(1);
        expect((error as VmarError).code, story).toMatch(kind.code === 'EIO' ? 'io-error' : 'no-space');
      }
      const expected = error === undefined ? [first, second] : [first];
      await expectSound(world, { kept: expected }).catch((cause: unknown) => {
        throw new Error(`${story}: ${error === undefined ? 'done' : `failed (${error})`}, but: ${cause}`, { cause });
      });
      const next = { ...second, id: await backUpNight(world, second) };
      expectSwept(world);
      await expectSound(world, { kept: [...expected, next] });
      rmSync(world.base, { recursive: true });
    }
    expect(failed).toBeGreaterThan(20);
    expect(done).toBeGreaterThan(0);
  });
});

/** A disk without room, until something on it is removed. */
class FullDisk extends RealFs {
  #isFull = true;

  #refuse(path: string): void {
    if (!this.#isFull) return;
    throw storeFailure(Object.assign(new Error('ENOSPC: injected'), { code: 'ENOSPC' }), 'write', path);
  }

  override async createFile(path: string, options?: CreateOptions): Promise<StoreFile> {
    this.#refuse(path);
    return await super.createFile(path, options);
  }

  override async mkdir(path: string): Promise<void> {
    this.#refuse(path);
    await super.mkdir(path);
  }

  override async unlink(path: string): Promise<void> {
    await super.unlink(path);
    this.#isFull = false;
  }
}

it.each([second, nightOf('200', 1)])('a disk that only dead sessions fill takes the next backup, $id', async (next) => {
  const world = await worldWithFirst();
  leaveDeadSession(world);
  await backUpNight(World.at(world.base, { fs: new FullDisk() }), next);
  expectSwept(world);
  await expectSound(world, { kept: [first, next] });
});

type Fill = (vault: Vault, machine: Machine) => Promise<unknown>;

/** A backup that goes into an archive: its disks, or its frames as they are stored. */
const fills: readonly (readonly [string, () => Promise<Fill>])[] = [
  [
    'a backup',
    async () => async (vault, machine) =>
      await dumpInto(vault, machine, describeDisks('100', first.disks, first.timeSeconds), first.disks),
  ],
  [
    'an export',
    async () => {
      const backup = await openArchive(await makeArchive(await worldWithFirst(), first.disks));
      const options = { signal: new AbortController().signal, onProgress: () => {} };
      return async (vault, machine) => await exportArchive(backup, vault, { ...options, machine });
    },
  ],
];

const cases = fills.flatMap(([what, makeFill]) => KINDS.map((kind) => ({ what, kind, makeFill })));

describe.each(cases)('$kind at every operation of the archive of $what', ({ kind, makeFill }) => {
  it('leaves no file, or a whole one', async () => {
    const fill = await makeFill();
    const directory = join(scratch, `archives-${worlds++}`);
    mkdirSync(directory);
    const machine = World.at(directory).machine();
    let failed = 0;
    for (let at = 1; ; at++) {
      const faults = new FaultFs(new RealFs(), { ...kind, at });
      const path = join(directory, `${at}.vmar`);
      const filesBefore = openFiles();
      const error = await failureOf(async () => {
        const options = { clusterSizeBytes: CLUSTER, hash: 'blake3' as const, fs: faults, scratchParent: directory };
        const vault = await openArchiveVault({ kind: 'file', path, overwrite: false }, options);
        await fill(vault, machine);
      });
      if (!faults.fired && error !== undefined) throw error;
      if (!faults.fired) break;
      const story = `operation ${at}, ${faults.seen[at - 1]}: ${error}`;
      expect(openFiles(), `${story}: files left open`).toBe(filesBefore);
      if (error !== undefined) {
        failed++;
        expect(error, story).toBeInstanceOf(VmarError);
        expect((error as VmarError).exitStatus, story).toBe(1);
        expect(readdirSync(directory), story).toEqual([]);
      } else {
        const options = { mode: 'full', portable: false, workers: 0 } as const;
        expect((await verifyArchive(path, options)).damage, story).toEqual([]);
        for (const name of readdirSync(directory)) rmSync(join(directory, name));
      }
    }
    await machine.close();
    expect(failed).toBeGreaterThan(10);
  });
});

describe.each(['ENOSPC', 'EIO'] as const)('%s at writes of a backup of many frames, by threads', (code) => {
  it('is what is told, and nothing else', async () => {
    const origin = await worldWithFirst();
    const content = seededRandom(5).bytes(16 * MIB);
    let failed = 0;
    for (let at = 6; at < 16; at++) {
      const world = copyOf(origin);
      const faults = new FaultFs(new RealFs(), { code, at });
      const threaded = World.at(world.base, { fs: faults, workers: 2 });
      const error = await failureOf(() => threaded.backup('9', [{ name: 'd', content }], 1000));
      rmSync(world.base, { recursive: true });
      if (!/^(create|write|fsync) .*vmar$/.test(faults.seen[at - 1]!)) continue;
      failed++;
      const expected = { code: code === 'EIO' ? 'io-error' : 'no-space' };
      expect(error, `operation ${at}, ${faults.seen[at - 1]}`).toMatchObject(expected);
    }
    expect(failed).toBeGreaterThan(4);
  });
});

/** As on FAT, exFAT and some network shares. */
class NoHardLinks extends RealFs {
  override async link(_existing: string, path: string): Promise<void> {
    throw storeFailure(Object.assign(new Error('EPERM: injected'), { code: 'EPERM' }), 'link', path);
  }
}

describe('a file system without hard links', () => {
  it('holds a datastore, and never takes the name of a backup for another', async () => {
    const world = await worldWithFirst();
    const linkless = World.at(world.base, { fs: new NoHardLinks() });
    const again = { ...second, id: await backUpNight(linkless, { ...second, timeSeconds: first.timeSeconds }) };
    expect(again.id > first.id).toBe(true);
    expectSwept(world);
    await expectSound(world, { kept: [first, again] });
  });

  it('takes an archive, but not in the place of another', async () => {
    const directory = join(scratch, `archives-${worlds++}`);
    mkdirSync(directory);
    const machine = World.at(directory).machine();
    const path = join(directory, 'a.vmar');
    const options = {
      clusterSizeBytes: CLUSTER,
      hash: 'blake3' as const,
      fs: new NoHardLinks(),
      scratchParent: directory,
    };
    const target = { kind: 'file', path, overwrite: false } as const;
    const [one, two] = [await openArchiveVault(target, options), await openArchiveVault(target, options)];
    const description = describeDisks('100', first.disks, first.timeSeconds);
    await dumpInto(one, machine, description, first.disks);
    await expect(dumpInto(two, machine, description, first.disks)).rejects.toMatchObject({
      code: 'exists',
      exitStatus: 1,
    });
    await machine.close();
    expect(readdirSync(directory)).toEqual(['a.vmar']);
    expect((await verifyArchive(path, { mode: 'full', portable: false, workers: 0 })).damage).toEqual([]);
  });
});
