// SPDX-License-Identifier: MIT

import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Bench } from './bench.js';

const bench = new Bench();

describe('vmar init', () => {
  it('makes a datastore where there is nothing, and says what it is', async () => {
    const document = await bench.json(['init', 'a']);
    expect(document).toEqual({
      datastore: bench.path('a'),
      uuid: expect.stringMatching(/^[0-9a-f]{32}$/),
      clusterSize: 65536,
      hash: 'blake3',
    });
    expect(readdirSync(bench.path('a')).sort()).toEqual([
      'datastore.pb',
      'locks',
      'manifests',
      'packs',
      'state',
      'tmp',
    ]);
    expect(statSync(bench.path('a')).mode & 0o777).toBe(0o700);
    expect(await bench.json(['list', '--datastore', 'a'])).toEqual({ backups: [] });
  });

  it('takes a cluster size and a hash', async () => {
    const document = await bench.json(['init', 'b', '--cluster-size', '4MiB', '--hash', 'sha256']);
    expect(document).toMatchObject({ clusterSize: 4194304, hash: 'sha256' });
  });

  it('prints one line, and nothing with --quiet', async () => {
    expect((await bench.run(['init', 'c'])).text.trimEnd().split('\n')).toHaveLength(1);
    expect(await bench.run(['--quiet', 'init', 'd'])).toMatchObject({ status: 0, text: '', stderr: '' });
  });

  it.each(['32KiB', '8MiB', '100KiB', '0', 'big'])('refuses a cluster size of %s', async (size) => {
    expect(await bench.error(['init', 'x', '--cluster-size', size])).toMatchObject({ exit: 2 });
  });

  it('refuses another hash', async () => {
    expect(await bench.error(['init', 'x', '--hash', 'md5'])).toMatchObject({ code: 'bad-hash', exit: 2 });
  });

  it('refuses a directory that is not empty, and one that has a datastore', async () => {
    mkdirSync(bench.path('full'));
    writeFileSync(bench.path('full', 'file'), '');
    expect(await bench.error(['init', 'full'])).toMatchObject({ exit: 1, object: 'full' });
    expect(readdirSync(bench.path('full'))).toEqual(['file']);
    expect(await bench.error(['init', 'a'])).toMatchObject({ exit: 1 });
    expect(await bench.error(['init', 'nowhere/deep'])).toMatchObject({ exit: 1 });
  });
});
