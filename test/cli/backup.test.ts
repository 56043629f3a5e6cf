// SPDX-License-Identifier: MIT
// What a backup says, and what it refuses. That what it stores is right is restore.test.ts's.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { Bench } from './bench.js';
import { CLUSTER, makeImage, mixedImage, noise, patch, untilLocked } from './images.js';

const bench = new Bench();

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  mixedImage(bench.path('a.raw'));
});

describe('a backup', () => {
  it('counts what it read, and what was new', async () => {
    const words = ['backup', 'counts', '--disk', 'scsi0=a.raw', '--time', '1000000000'];
    const document = await bench.json(words);
    expect(document).toEqual({
      backup: 'vm/counts/2001-09-09T01:46:40Z',
      disks: [
        {
          name: 'scsi0',
          size: 10 * CLUSTER + 1234,
          read: expect.any(Number),
          zero: 6 * CLUSTER,
          unchanged: 0,
          // The two clusters of text differ: the sentence does not divide a cluster.
          new: 4 * CLUSTER + 1234,
          stored: expect.any(Number),
        },
      ],
      seconds: expect.any(Number),
    });
    const [disk] = document.disks;
    expect(disk.stored).toBeGreaterThan(2 * CLUSTER);
    expect(disk.stored).toBeLessThan(3 * CLUSTER);
  });

  it('the next night stores what changed', async () => {
    makeImage(bench.path('n.raw'), 20 * CLUSTER, [{ at: 0, bytes: noise(20) }]);
    await bench.json(['backup', 'next', '--disk', 'd=n.raw']);
    patch(bench.path('n.raw'), 7 * CLUSTER, noise(2));
    const { disks } = await bench.json(['backup', 'next', '--disk', 'd=n.raw']);
    expect(disks[0]).toMatchObject({ unchanged: 18 * CLUSTER, new: 2 * CLUSTER, zero: 0 });
    const again = await bench.json(['backup', 'next', '--disk', 'd=n.raw']);
    expect(again.disks[0]).toMatchObject({ unchanged: 20 * CLUSTER, new: 0, stored: 0 });
  });

  it('of another guest stores nothing that is there already', async () => {
    await bench.json(['backup', 'one', '--disk', 'd=a.raw']);
    const { disks } = await bench.json(['backup', 'two', '--disk', 'd=a.raw']);
    expect(disks[0]).toMatchObject({ new: 0, stored: 0, unchanged: 0 });
  });

  it('of the same second gets the next one', async () => {
    const words = ['backup', 'second', '--disk', 'd=a.raw', '--time', '1500000000'];
    const first = await bench.json(words);
    const second = await bench.json(words);
    expect([first.backup, second.backup]).toEqual(['vm/second/2017-07-14T02:40:00Z', 'vm/second/2017-07-14T02:40:01Z']);
  });

  it('goes under the namespace', async () => {
    const { backup } = await bench.json(['backup', 'a/b/vm/100', '--disk', 'd=a.raw']);
    expect(backup).toMatch(/^a\/b\/vm\/100\//);
  });

  it('of a disk of no length works', async () => {
    makeImage(bench.path('empty.raw'), 0);
    const { disks } = await bench.json(['backup', 'empty', '--disk', 'e=empty.raw', '--disk', 'd=a.raw']);
    expect(disks[0]).toMatchObject({ name: 'e', size: 0, read: 0, zero: 0, new: 0, stored: 0 });
  });

  it.each([
    ['--level', '9'],
    ['--workers', '0'],
    ['--workers', '3'],
    ['--speed', '1GiB'],
  ])('takes %s %s', async (...flags) => {
    await bench.json(['backup', 'flags', '--disk', 'd=a.raw', ...flags]);
  });

  it('prints an aligned table and one closing line', async () => {
    const { status, text, stderr } = await bench.run(['backup', 'table', '--disk', 'scsi0=a.raw', '--disk', 'x=a.raw']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const lines = text.trimEnd().split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[0]).toMatch(/^disk +size +read +zero +unchanged +new +stored$/);
    expect(lines[1]!.indexOf('KiB')).toBe(lines[2]!.indexOf('KiB'));
    expect(lines[3]).toMatch(/^vm\/table\/\S+Z done in .*\/s read$/);
    expect(await bench.run(['--quiet', 'backup', 'table', '--disk', 'x=a.raw'])).toMatchObject({
      text: '',
      stderr: '',
    });
  });

  it('keeps labels and configurations', async () => {
    mkdirSync(bench.path('etc'));
    writeFileSync(bench.path('etc', '100.conf'), 'memory: 512\n');
    writeFileSync(bench.path('etc', 'Über.fw'), '');
    const configs = ['--config', 'etc/100.conf', '--config', 'etc/Über.fw'];
    const labels = ['--label', 'site=Köln', '--label', 'by=hand'];
    await bench.json(['backup', 'kept', '--disk', 'd=a.raw', ...configs, ...labels]);
    const document = await bench.json(['show', 'kept']);
    expect(document.labels).toEqual({ site: 'Köln', by: 'hand' });
    expect(document.configs).toEqual([
      { name: '100.conf', size: 12 },
      { name: 'Über.fw', size: 0 },
    ]);
  });
});

describe('a backup refuses, and leaves nothing,', () => {
  const there = () => readdirSync(bench.path('store', 'manifests'), { recursive: true });
  const refused = async (words: string[], expected: object): Promise<void> => {
    const before = there();
    expect(await bench.error(['backup', ...words])).toMatchObject(expected);
    expect(there()).toEqual(before);
    expect(readdirSync(bench.path('store', 'tmp'))).toEqual([]);
  };

  it('images that are missing, a directory, or no image', async () => {
    await refused(['100', '--disk', 'd=missing.raw'], { exit: 1, object: 'missing.raw', code: 'image-missing' });
    await refused(['100', '--disk', 'd=a.raw', '--disk', 'e=.'], { exit: 1, object: '.', code: 'not-an-image' });
    await refused(['100', '--disk', 'd=/dev/null'], { exit: 1, code: 'not-an-image' });
    spawnSync('mkfifo', [bench.path('fifo')]);
    await refused(['100', '--disk', 'd=fifo'], { exit: 1, code: 'not-an-image' });
  });

  it('a raw disk that looks like another format, unless it is said which it is', async () => {
    makeImage(bench.path('q.raw'), CLUSTER, [{ at: 0, bytes: Buffer.from('QFI\xfb', 'latin1') }]);
    await refused(['100', '--disk', 'd=q.raw'], { exit: 1, code: 'format-unclear', found: 'qcow2' });
    const { disks } = await bench.json(['backup', 'raw', '--disk', 'd=raw:q.raw']);
    expect(disks[0].size).toBe(CLUSTER);
  });

  it('an image that may not be read', async () => {
    makeImage(bench.path('secret.raw'), CLUSTER);
    chmodSync(bench.path('secret.raw'), 0);
    const words = ['backup', '100', '--disk', 'd=secret.raw'];
    const before = there();
    const error = await bench.error(words, { minding: 'permissions' });
    expect(error).toMatchObject({ exit: 1, code: 'image-unreadable' });
    expect(there()).toEqual(before);
    expect(await bench.error([...words, '--output', 'x.vmar'], { minding: 'permissions' })).toMatchObject(error);
    expect(readdirSync(bench.directory).filter((name) => name.startsWith('x.vmar'))).toEqual([]);
  });

  it.each([
    ['no disk', ['100']],
    ['a guest called ..', ['..', '--disk', 'd=a.raw']],
    ['a guest with a slash', ['a/b', '--disk', 'd=a.raw']],
    ['a guest with a space', ['a b', '--disk', 'd=a.raw']],
    ['a guest in unicode', ['gäst', '--disk', 'd=a.raw']],
    ['a guest without a name', ['', '--disk', 'd=a.raw']],
    ['a namespace that climbs', ['../vm/100', '--disk', 'd=a.raw']],
    ['a disk called ..', ['100', '--disk', '..=a.raw']],
    ['a disk with a slash', ['100', '--disk', 'a/b=a.raw']],
    ['a disk with a space', ['100', '--disk', 'a b=a.raw']],
    ['a disk in unicode', ['100', '--disk', 'dïsk=a.raw']],
    ['a disk given twice', ['100', '--disk', 'd=a.raw', '--disk', 'd=a.raw']],
    ['a disk without an image', ['100', '--disk', 'd']],
    ['255 disks', ['100', ...Array.from({ length: 255 }, (_, index) => ['--disk', `d${index}=a.raw`]).flat()]],
    ['a level past zstd', ['100', '--disk', 'd=a.raw', '--level', '23']],
    ['a speed that is none', ['100', '--disk', 'd=a.raw', '--speed', 'fast']],
    ['a time that is none', ['100', '--disk', 'd=a.raw', '--time', 'now']],
    ['a time past the year 9999', ['100', '--disk', 'd=a.raw', '--time', '253402300800']],
    ['a label without a value', ['100', '--disk', 'd=a.raw', '--label', 'x']],
    ['a configuration twice', ['100', '--disk', 'd=a.raw', '--config', 'etc/100.conf', '--config', './etc/100.conf']],
    ['a format without an output', ['100', '--disk', 'd=a.raw', '--format', 'vmar']],
  ])('%s: 2', async (_, words) => {
    await refused(words, { exit: 2 });
  });

  it('configurations that cannot be read, or are no files', async () => {
    await refused(['100', '--disk', 'd=a.raw', '--config', 'none.conf'], { exit: 1, object: 'none.conf' });
    await refused(['100', '--disk', 'd=a.raw', '--config', 'etc'], { exit: 1, object: 'etc' });
    makeImage(bench.path('big.conf'), (1 << 20) + 1);
    await refused(['100', '--disk', 'd=a.raw', '--config', 'big.conf'], { exit: 1, code: 'config-too-large' });
  });

  it.each([
    ['a tar, which needs its disks in order', ['--output', 'x.tar'], 'no-tar'],
    ['an output of no known format', ['--output', 'x.img'], 'bad-output'],
  ])('%s', async (_, words, code) => {
    await refused(['100', '--disk', 'd=a.raw', ...words], { exit: 2, code });
  });

  it('what is no datastore', async () => {
    const error = await bench.error(['backup', '100', '--disk', 'd=a.raw', '--datastore', 'etc']);
    expect(error).toMatchObject({ exit: 1, code: 'not-a-datastore' });
    expect(readdirSync(bench.path('etc')).sort()).toEqual(['100.conf', 'Über.fw']);
  });
});

describe('an image that changes its length meanwhile', () => {
  it.each([
    ['shorter', 'image-shrank', 50 * CLUSTER],
    ['longer', 'image-grew', 200 * CLUSTER],
  ])('fails: %s', async (_, code, length) => {
    const image = makeImage(bench.path('moving.raw'), 100 * CLUSTER, [{ at: 0, bytes: noise(100) }]);
    const running = bench.start(['--json', 'backup', 'moving', '--disk', 'd=moving.raw', '--speed', '3MiB']);
    await untilLocked(image, running);
    // The length is taken in the moment after the lock.
    await new Promise((resolve) => setTimeout(resolve, 200));
    truncateSync(image, length);
    const { status, json } = await running.finished;
    expect(json().error).toMatchObject({ code, exit: 1, object: 'moving.raw' });
    expect(status).toBe(1);
    expect(await bench.error(['list', 'moving'])).toMatchObject({ exit: 4 });
  });
});
