// SPDX-License-Identifier: MIT
// File systems that cannot hold a datastore are told when one is made; one whose locks fail can be read all the same.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { haveTool } from '../base/scratch.js';
import { Bench, type Finished } from '../cli/bench.js';
import { mixedImage } from '../cli/images.js';

const bench = new Bench();

/** What went wrong, if anything. */
function problemOf(command: string, ...words: string[]): string | undefined {
  const { error, status, stderr } = spawnSync(command, words, { encoding: 'utf8' });
  return status === 0 ? undefined : (error?.message ?? `${command}: ${stderr.trim()}`);
}

/** Mounts an exFAT; false, and says so loudly, where that cannot be done. */
function mountExfat(place: string): boolean {
  const image = `${place}.img`;
  mkdirSync(place);
  writeFileSync(image, '');
  truncateSync(image, 16 << 20);
  const loop = spawnSync('losetup', ['--find', '--show', image], { encoding: 'utf8' }).stdout?.trim() ?? '';
  const problem = problemOf('mkfs.exfat', image) ?? problemOf('mount.exfat-fuse', loop, place);
  afterAll(() => {
    if (problem === undefined) spawnSync('umount', [place]);
    if (loop !== '') spawnSync('losetup', ['-d', loop]);
  });
  if (problem !== undefined) console.warn(`\n!!! NOT TESTED: a datastore on exFAT (${problem})\n`);
  return problem === undefined;
}

describe('exFAT', () => {
  const disk = bench.path('exfat');
  const isThere = mountExfat(disk);

  it.runIf(isThere)('is refused before anybody backs up to it, and nothing is left there', async () => {
    const error = await bench.error(['init', join(disk, 'store')]);
    expect(error).toMatchObject({ exit: 1, code: 'names-refused', object: join(disk, 'store') });
    expect(error.advice).toContain('ext4');
    expect(readdirSync(disk)).toEqual([]);
  });
});

describe('a file system without locks', () => {
  const isThere = haveTool('strace', 'file systems whose locks fail');

  /** As by an NFS server whose lock manager is gone: so many flock calls of the program fail. */
  async function withoutLocks(error: string, calls: string, words: readonly string[]): Promise<Finished> {
    const inject = `inject=flock:error=${error}${calls}`;
    return await bench.run(words, { under: ['strace', '-f', '-o', '/dev/null', '-e', 'trace=flock', '-e', inject] });
  }

  it.runIf(isThere).each(['ENOLCK', 'ENOSYS', 'EOPNOTSUPP'])('is refused by init (%s)', async (code) => {
    const { status, text } = await withoutLocks(code, '', ['--json', 'init', bench.path('none')]);
    expect(status).toBe(1);
    expect(JSON.parse(text).error).toMatchObject({ code: code === 'ENOLCK' ? 'no-locks' : 'not-supported' });
    expect(existsSync(bench.path('none'))).toBe(false);
  });

  it.runIf(isThere)('is read all the same, which it says, and written by nobody', async () => {
    const image = mixedImage(bench.path('a.raw'));
    await bench.json(['init', bench.store]);
    await bench.json(['backup', '100', '--disk', `d=${image}`]);
    const before = readdirSync(join(bench.store, 'locks'));
    // The first is the session's own; those of the chunk index lie elsewhere.
    const { status, stderr } = await withoutLocks('ENOLCK', ':when=1', ['restore', '100', '--to', 'out']);
    expect(stderr).toContain('has no locks; reading without a lock');
    expect(status).toBe(0);
    expect(readFileSync(bench.path('out', 'd.raw')).equals(readFileSync(image))).toBe(true);
    const refused = await withoutLocks('ENOLCK', '', ['--json', 'backup', '100', '--disk', `d=${image}`]);
    expect(refused.json().error).toMatchObject({ exit: 1, code: 'no-locks' });
    expect(readdirSync(join(bench.store, 'locks'))).toEqual(before);
  });
});
