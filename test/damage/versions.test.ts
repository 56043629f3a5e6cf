// SPDX-License-Identifier: MIT
// What a later vmar wrote is not damage: it is refused with exit status 1 and the name of what is not known, read but not
// written, or taken as it is, as the class of the feature says; and what is beside it goes on.

import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { DamageError, FailedError } from '#vmar/src/base/errors.js';
import { World } from '../archive/world.js';
import { scratchDirectory } from '../base/scratch.js';
import { type Anatomy, dissect, type Part } from './anatomy.js';
import { whileFlipped } from './lanes.js';
import { resealEnvelope, resealHeader } from './reseal.js';
import { restoreTo } from './restoring.js';
import { backUp, makeTinyStore, NEIGHBOUR, NIGHT_1, NIGHT_2, TINY_BACKUPS } from './tiny-store.js';
import { dropIndex, lostDisks } from './truth.js';

const base = scratchDirectory();
let original: World;
let anatomy: Anatomy;
let worlds = 0;

beforeAll(async () => {
  original = await makeTinyStore(join(base, 'original'));
  anatomy = dissect(original.root);
});

function copy(): World {
  const world = World.at(join(base, `world${worlds++}`), original.options);
  cpSync(original.root, world.root, { recursive: true });
  return world;
}

/** Offsets of the version and the three sets of feature bits. */
const ENVELOPE = { version: 8, incompatible: 16, readOnlyCompatible: 24, compatible: 32 } as const;

function put(world: World, file: string, change: (bytes: Buffer) => void): string {
  const here = file.replace(original.root, world.root);
  const bytes = readFileSync(here);
  if (here.endsWith('.vmar')) writeFileSync(here, resealHeader(bytes, change));
  else writeFileSync(here, resealEnvelope(bytes, here.endsWith('.pb') ? 'seal' : 'manifest', change));
  return here;
}

function fileOf(name: Part['name'], backup?: string): string {
  return anatomy.parts.find((part) => part.name === name && (backup === undefined || part.backups.has(backup)))!.file;
}

/** A pack that only one backup needs. */
function packOf(backup: string, isData: boolean): string {
  const parts = anatomy.parts.filter((part) => part.name === 'frame' && part.isData === isData);
  return parts.find((part) => [...part.backups].join() === backup)!.file;
}

async function failure(action: Promise<unknown>): Promise<FailedError> {
  const error = await action.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(FailedError);
  expect(error).not.toBeInstanceOf(DamageError);
  expect((error as FailedError).exitStatus).toBe(1);
  return error as FailedError;
}

const INCOMPATIBLE: readonly [string, (bytes: Buffer) => void, RegExp][] = [
  ['a newer version', (bytes) => bytes.writeUInt16LE(2, ENVELOPE.version), /version 2/],
  ['encryption', (bytes) => bytes.writeBigUInt64LE(1n, ENVELOPE.incompatible), /encryption/],
  ['a feature without a name', (bytes) => bytes.writeBigUInt64LE(1n << 63n, ENVELOPE.incompatible), /bit 63/],
];

describe('a superblock', () => {
  it.each(INCOMPATIBLE)('with %s is refused, and named', async (_, change, name) => {
    const world = copy();
    const file = put(world, fileOf('superblock'), change);
    const error = await failure(world.open());
    expect(error.message).toMatch(name);
    expect(error.object).toBe(file);
  });

  it('with a read-only-compatible feature can be read and verified, and not written to', async () => {
    const world = copy();
    const file = put(world, fileOf('superblock'), (bytes) => bytes.writeBigUInt64LE(3n, ENVELOPE.readOnlyCompatible));
    expect((await world.verify()).damage).toEqual([]);
    expect(await lostDisks(world, TINY_BACKUPS)).toEqual(new Set());
    const error = await failure(backUp(world, { name: 'vm/9/2026-02-01T00:00:00Z', disks: TINY_BACKUPS[0]!.disks }));
    expect(error.message).toMatch(/parity, append-only/);
    expect(error.object).toBe(file);
    expect((await world.verify()).checked.backups).toBe(TINY_BACKUPS.length);
  });

  it('with a compatible feature is taken as it is', async () => {
    const world = copy();
    put(world, fileOf('superblock'), (bytes) => bytes.writeBigUInt64LE(5n, ENVELOPE.compatible));
    await backUp(world, { name: 'vm/9/2026-02-01T00:00:00Z', disks: TINY_BACKUPS[0]!.disks });
    expect((await world.verify()).damage).toEqual([]);
  });
});

describe('a manifest', () => {
  it.each(INCOMPATIBLE)('with %s is refused, and named; others are restored', async (_, change, name) => {
    const world = copy();
    const file = put(world, fileOf('manifest', NEIGHBOUR), change);
    const target = join(world.base, 'target');
    const error = await failure(restoreTo(world, { backup: NEIGHBOUR, targets: { b: target }, allowDamaged: true }));
    expect(error.message).toMatch(name);
    expect(error.object).toBe(file);
    const others = TINY_BACKUPS.filter((backup) => backup.name !== NEIGHBOUR);
    expect(await lostDisks(world, others)).toEqual(new Set());
    expect((await failure(world.verify())).message).toMatch(name);
  });

  it('with a read-only-compatible or compatible feature is read, and the guest backed up again', async () => {
    for (const at of [ENVELOPE.readOnlyCompatible, ENVELOPE.compatible]) {
      const world = copy();
      put(world, fileOf('manifest', NEIGHBOUR), (bytes) => bytes.writeBigUInt64LE(1n, at));
      // Its copy in the pack is as it was; that is another file.
      expect((await world.verify()).damage).toEqual([]);
      expect(await lostDisks(world, TINY_BACKUPS)).toEqual(new Set());
      const again = { name: 'vm/200/2026-02-01T00:00:00Z', disks: TINY_BACKUPS[1]!.disks };
      await backUp(world, again);
      expect(await lostDisks(world, [again])).toEqual(new Set());
    }
  });

  it('of a newer version does not keep the guest from being backed up', async () => {
    const world = copy();
    put(world, fileOf('manifest', NIGHT_2), INCOMPATIBLE[0]![1]);
    const again = { name: 'vm/100/2026-02-01T00:00:00Z', disks: TINY_BACKUPS[2]!.disks };
    await backUp(world, again);
    expect(await lostDisks(world, [again])).toEqual(new Set());
  });
});

describe('a sidecar', () => {
  it.each(INCOMPATIBLE)('with %s is told by verify, and keeps nobody from restoring', async (_, change, name) => {
    const world = copy();
    put(world, fileOf('sidecar'), change);
    expect((await failure(world.verify())).message).toMatch(name);
    expect(await lostDisks(world, TINY_BACKUPS)).toEqual(new Set());
  });
});

describe.each([
  ['data', true],
  ['maps', false],
] as const)('a pack of %s', (_, isData) => {
  it.each(INCOMPATIBLE)(
    'with %s is refused, and named; those who do not need it are restored',
    async (__, change, name) => {
      const world = copy();
      const file = put(world, packOf(NEIGHBOUR, isData), change);
      const others = TINY_BACKUPS.filter((backup) => backup.name !== NEIGHBOUR);
      for (const hasIndex of [false, true]) {
        if (!hasIndex) dropIndex(world);
        expect(await lostDisks(world, others)).toEqual(new Set());
        for (const allowDamaged of [false, true]) {
          const wish = { backup: NEIGHBOUR, targets: { b: join(world.base, 'target') }, allowDamaged };
          const error = await failure(restoreTo(world, wish));
          expect(error.message).toMatch(name);
          expect(error.object).toBe(file);
        }
        const error = await failure(world.verify());
        expect(error.message).toMatch(name);
        expect(error.object).toBe(file);
      }
      // A backup goes on without it.
      const again = { name: 'vm/200/2026-02-01T00:00:00Z', disks: TINY_BACKUPS[1]!.disks };
      await backUp(world, again);
      expect(await lostDisks(world, [again])).toEqual(new Set());
    },
  );

  it('with a read-only-compatible or compatible feature is read', async () => {
    for (const at of [ENVELOPE.readOnlyCompatible, ENVELOPE.compatible]) {
      const world = copy();
      put(world, packOf(NEIGHBOUR, isData), (bytes) => bytes.writeBigUInt64LE(2n, at));
      expect((await world.verify()).damage).toEqual([]);
      expect(await lostDisks(world, TINY_BACKUPS)).toEqual(new Set());
    }
  });
});

describe('damage beside something newer', () => {
  it('is told as damage, and what is newer with it', async () => {
    const world = copy();
    const newer = put(world, packOf(NEIGHBOUR, true), INCOMPATIBLE[0]![1]);
    const damaged = anatomy.parts.find((part) => part.isData && part.backups.has(NIGHT_1))!;
    const here = damaged.file.replace(original.root, world.root);
    const { damage } = await whileFlipped(here, damaged.from, 0xff, async () => await world.verify());
    expect(new Set(damage.map((record) => record.file))).toEqual(new Set([here, newer]));
    expect([...damage.find((record) => record.file === newer)!.backups]).toEqual([NEIGHBOUR]);
  });
});
