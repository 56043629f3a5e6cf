// SPDX-License-Identifier: MIT
// The real program on every kind of damage: exit status 3, and one document that names it.

import { cpSync, readFileSync, rmSync } from 'node:fs';
import { relative } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { World } from '../archive/world.js';
import { Bench } from '../cli/bench.js';
import { type Anatomy, dissect, dissectContainer, type Part, type PartName } from './anatomy.js';
import { whileFlipped, whileHolding } from './lanes.js';
import { makeTinyArchive } from './tiny-archive.js';
import { makeTinyStore, NIGHT_1 } from './tiny-store.js';

const bench = new Bench();
let world: World;
let anatomy: Anatomy;

beforeAll(async () => {
  world = await makeTinyStore(bench.directory);
  expect(world.root).toBe(bench.store);
  anatomy = dissect(world.root);
});

async function verify(...words: string[]) {
  const { status, json } = await bench.run(['--json', 'verify', '--workers', '0', ...words]);
  return { status, document: json() };
}

const KINDS: readonly [PartName, string][] = [
  ['superblock', 'superblock'],
  ['manifest', 'manifest'],
  ['sidecar', 'sidecar'],
  ['header', 'container'],
  ['extent head', 'extent'],
  ['frame', 'frame'],
  ['chunk page', 'table'],
  ['frame page', 'table'],
  ['footer', 'container'],
];

function documentOf(part: Part, kind: string) {
  return {
    file: relative(world.root, part.file),
    offset: part.from,
    length: expect.any(Number),
    kind,
    problem: expect.stringMatching(/./),
    backups: [...part.backups].sort(),
    disks: [...part.disks].sort(),
  };
}

describe('vmar verify --json', () => {
  it('of what is whole', async () => {
    const { status, document } = await verify();
    expect(status).toBe(0);
    expect(document).toEqual({ ok: true, checked: expect.any(Object), damage: [], seconds: expect.any(Number) });
  });

  it.each(KINDS)('of a damaged %s', async (name, kind) => {
    const part = anatomy.parts.find((candidate) => candidate.name === name)!;
    await whileFlipped(part.file, part.to - 1, 0x20, async () => {
      const { status, document } = await verify();
      expect(status).toBe(3);
      expect(document).toEqual({
        ok: false,
        checked: expect.any(Object),
        damage: [documentOf(part, kind)],
        seconds: expect.any(Number),
      });
    });
  });

  it('of a pack that is gone', async () => {
    const part = anatomy.parts.find((candidate) => candidate.name === 'header' && candidate.backups.has(NIGHT_1))!;
    const kept = bench.path('kept');
    cpSync(part.file, kept);
    rmSync(part.file);
    const { status, document } = await verify();
    cpSync(kept, part.file);
    expect(status).toBe(3);
    expect(document.damage).toEqual([documentOf(part, 'missing-chunk')]);
  });
});

describe('vmar verify --json FILE.vmar', () => {
  it('of what is whole, damaged, and cut', async () => {
    const { path } = await makeTinyArchive(bench.path('archives'));
    expect((await verify(path)).status).toBe(0);
    const part = dissectContainer(path, readFileSync(path)).find((candidate) => candidate.isData)!;
    await whileFlipped(path, part.from, 0x01, async () => {
      const { status, document } = await verify(path);
      expect(status).toBe(3);
      const place = {
        file: path,
        offset: part.from,
        length: part.to - part.from,
        kind: 'frame',
        problem: expect.any(String),
      };
      expect(document.damage).toEqual([{ ...place, backups: [path], disks: expect.arrayContaining([`${path}:a`]) }]);
    });
    await whileHolding(path, readFileSync(path).subarray(0, -1), async () => {
      const { status, document } = await verify(path);
      expect(status).toBe(3);
      expect(document.damage).toEqual([expect.objectContaining({ file: path, kind: 'container', backups: [path] })]);
      const restore = await bench.run(['--json', 'restore', path, '--to', bench.path('out')]);
      expect(restore.status).toBe(3);
    });
  });
});
