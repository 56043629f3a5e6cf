// SPDX-License-Identifier: MIT
// Manifests that are not found where they belong: gc deletes nothing that they may need.

import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Bench } from '../cli/bench.js';
import { mixedImage } from '../cli/images.js';

const bench = new Bench();
const BACKUP = 'vm/100/2026-11-01T01:00:00Z';
const MANIFEST = `manifests/${BACKUP}.manifest`;
const inStore = (path: string): string => bench.path('store', path);

beforeAll(async () => {
  const whole = bench.path('whole');
  await bench.json(['init', whole]);
  const disk = `d=${mixedImage(bench.path('a.raw'))}`;
  await bench.json(['--datastore', whole, 'backup', '100', '--disk', disk, '--time', '1793494800']);
});

beforeEach(() => {
  rmSync(bench.store, { recursive: true, force: true });
  cpSync(bench.path('whole'), bench.store, { recursive: true });
});

async function damageOf(...words: string[]) {
  const { status, json } = await bench.run(['--json', ...words]);
  expect(status).toBe(3);
  return json();
}

const packsOf = (): string[] => readdirSync(inStore('packs'), { recursive: true }).map(String).sort();

describe('gc', () => {
  const HIDINGS: readonly [string, string, string][] = [
    ['a manifest under another name', MANIFEST, `${MANIFEST}.bak`],
    ['a guest that was moved aside', 'manifests/vm/100', 'manifests/vm/_100'],
    ['a tree that was moved aside', 'manifests/vm', 'manifests/old/vm.kept'],
    ['manifests that are gone', 'manifests', '../gone'],
  ];

  it.each(HIDINGS)('collects nothing beside %s', async (_, from, to) => {
    rmSync(bench.path('gone'), { recursive: true, force: true });
    const before = packsOf();
    mkdirSync(join(inStore(to), '..'), { recursive: true });
    renameSync(inStore(from), inStore(to));
    const { error } = await damageOf('gc');
    expect(error.object).toContain(to.startsWith('..') ? 'manifests' : to);
    expect(packsOf()).toEqual(before);
  });

  it('follows links to what was moved to another disk, and waits while that is not there', async () => {
    renameSync(inStore('manifests/vm'), bench.path('elsewhere'));
    symlinkSync(bench.path('elsewhere'), inStore('manifests/vm'));
    const [prefix] = readdirSync(inStore('packs'));
    renameSync(inStore(`packs/${prefix}`), bench.path('packs'));
    symlinkSync(bench.path('packs'), inStore(`packs/${prefix}`));
    expect(await bench.json(['gc', '--max-unused', '0%'])).toMatchObject({ backups: 1, missingChunks: 0 });
    await bench.json(['restore', BACKUP, '--to', bench.path('out')]);
    expect(readFileSync(bench.path('out/d.raw')).equals(readFileSync(bench.path('a.raw')))).toBe(true);
    renameSync(bench.path('elsewhere'), bench.path('unmounted'));
    expect(await damageOf('gc')).toMatchObject({ error: { code: 'hidden-manifest', object: inStore('manifests/vm') } });
    expect(await damageOf('verify')).toMatchObject({ damage: [{ file: 'manifests/vm', kind: 'manifest' }] });
    await damageOf('list');
  });

  it('marks a directory in the place of a manifest as damage', async () => {
    rmSync(inStore(MANIFEST));
    mkdirSync(inStore(MANIFEST));
    expect(await damageOf('verify')).toMatchObject({ damage: [{ file: MANIFEST, backups: [BACKUP] }] });
    expect(await damageOf('gc')).toMatchObject({ error: { code: 'unknown-needs' } });
  });
});
