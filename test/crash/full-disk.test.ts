// SPDX-License-Identifier: MIT
// Disks that are really full: the datastore's, the target's of a restore, the cache's.

import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench } from '../cli/bench.js';
import { makeImage } from '../cli/images.js';
import { fileHolds } from './changing-image.js';
import { fillDisk, mountSmallDisk, type SmallDiskKind } from './small-disk.js';

const MIB = 1 << 20;

function imageOf(bench: Bench, name: string, sizeMib: number, seed: number): Buffer {
  const content = Buffer.from(seededRandom(seed).bytes(sizeMib * MIB + 77));
  makeImage(bench.path(name), content.length, [{ at: 0, bytes: content }]);
  return content;
}

describe.each<SmallDiskKind>(['tmpfs', 'ext4'])('a full %s', (kind) => {
  const bench = new Bench();
  const disk = bench.path('disk');
  const isThere = mountSmallDisk(kind, disk, 24);
  const store = join(disk, 'store');
  const env = { env: { VMAR_DATASTORE: store } };

  it.runIf(isThere)('ends a backup with a clear error, and the datastore is as it was', async () => {
    const small = imageOf(bench, 'small.raw', 3, 1);
    imageOf(bench, 'large.raw', 40, 2);
    await bench.json(['init', store]);
    await bench.json(['backup', 'small', '--disk', 'd=small.raw'], env);
    const error = await bench.error(['backup', 'large', '--disk', 'd=large.raw'], env);
    expect(error).toMatchObject({ exit: 1, code: 'no-space' });
    expect(error.message).toContain('no space is left');
    expect(error.advice).toContain('Free space');
    expect(readdirSync(join(store, 'tmp'))).toEqual([]);
    expect((await bench.json(['list'], env)).backups).toHaveLength(1);
    expect(await bench.json(['verify'], env)).toMatchObject({ ok: true });

    const filler = fillDisk(disk);
    expect(await bench.error(['backup', 'late', '--disk', 'd=large.raw'], env)).toMatchObject({
      exit: 1,
      code: 'no-space',
    });
    // Looking, verifying, restoring and forgetting go on where nothing can be written.
    expect((await bench.json(['list'], env)).backups).toHaveLength(1);
    expect(await bench.json(['verify'], env)).toMatchObject({ ok: true });
    await bench.json(['restore', 'small', '--disk', 'd=restored.raw'], env);
    expect(fileHolds(bench.path('restored.raw'), small)).toBe(true);
    rmSync(bench.path('restored.raw'));

    for (const path of [filler, `${filler}-2`]) rmSync(path, { force: true });
    const { backup } = await bench.json(['backup', 'small', '--disk', 'd=small.raw'], env);
    await bench.json(['forget', backup], env);
    expect(await bench.json(['verify'], env)).toMatchObject({ ok: true });
    expect(readdirSync(join(store, 'tmp'))).toEqual([]);
  });

  it.runIf(isThere)('ends a restore with a clear error, and no file is left', async () => {
    imageOf(bench, 'large.raw', 40, 2);
    await bench.json(['init', bench.store]);
    await bench.json(['backup', 'large', '--disk', 'd=large.raw']);
    const error = await bench.error(['restore', 'large', '--to', join(disk, 'restored')]);
    expect(error).toMatchObject({ exit: 1, object: join(disk, 'restored', 'd.raw') });
    expect(error.message).toMatch(/ENOSPC|no space/);
    expect(error.advice).toContain('room');
    expect(readdirSync(disk)).not.toContain('restored');
  });

  it.runIf(isThere)('as the output of an archive is told, and no file is left', async () => {
    imageOf(bench, 'large.raw', 40, 2);
    const error = await bench.error(['backup', 'large', '--disk', 'd=large.raw', '--output', join(disk, 'large.vmar')]);
    expect(error).toMatchObject({ exit: 1, code: 'no-space' });
    expect(readdirSync(disk).filter((name) => name.includes('large'))).toEqual([]);
  });
});

describe('a datastore with room that is to be left', () => {
  const bench = new Bench();
  const disk = bench.path('disk');
  const isThere = mountSmallDisk('tmpfs', disk, 64);
  const store = join(disk, 'store');
  const env = { env: { VMAR_DATASTORE: store } };
  const backup = (minFree: string) => ['backup', '100', '--disk', 'd=large.raw', '--min-free', minFree];

  it.runIf(isThere)('is not filled by a backup: it does not begin, or stops before', async () => {
    imageOf(bench, 'large.raw', 48, 2);
    await bench.json(['init', store]);
    expect(await bench.error(backup('100MiB'), env)).toMatchObject({ exit: 1, code: 'min-free', object: store });
    expect(readdirSync(join(store, 'locks'))).toEqual([]);
    const error = await bench.error(backup('32MiB'), env);
    expect(error).toMatchObject({ exit: 1, code: 'min-free', object: store });
    expect(error.advice).toContain('vmar prune');
    expect(readdirSync(join(store, 'tmp'))).toEqual([]);
    expect((await bench.json(['list'], env)).backups).toEqual([]);
    expect(await bench.json(['verify'], env)).toMatchObject({ ok: true });
    await bench.json(backup('8MiB'), env);
    const archive = ['backup', '100', '--disk', 'd=large.raw', '--output', 'x.vmar', '--min-free', '1MiB'];
    expect(await bench.error(archive)).toMatchObject({ exit: 2, code: 'no-room-here' });
  });
});

describe('a cache directory without room', () => {
  const bench = new Bench();
  const cache = bench.path('cache-disk');
  const isThere = mountSmallDisk('tmpfs', cache, 8);

  it.runIf(isThere)('costs deduplication, and no backup', async () => {
    const env = { env: { VMAR_CACHE_DIR: join(cache, 'vmar') } };
    const content = imageOf(bench, 'a.raw', 4, 3);
    await bench.json(['init', bench.store], env);
    for (let night = 0; night < 2; night++) await bench.json(['backup', '100', '--disk', 'd=a.raw'], env);
    await bench.json(['backup', '101', '--disk', 'd=a.raw'], env);
    expect(await bench.json(['verify'], env)).toMatchObject({ ok: true });
    await bench.json(['restore', '101', '--disk', 'd=restored.raw'], env);
    expect(fileHolds(bench.path('restored.raw'), content)).toBe(true);
  });
});
