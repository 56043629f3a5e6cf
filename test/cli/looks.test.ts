// SPDX-License-Identifier: MIT
// list, show and diff.

import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { Bench } from './bench.js';
import { CLUSTER, makeImage, mixedImage, noise, patch } from './images.js';

const bench = new Bench();
const SIZE = 10 * CLUSTER + 1234;
const [FIRST, SECOND] = ['vm/100/2001-09-09T01:46:40Z', 'vm/100/2001-09-09T01:46:41Z'];

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  mixedImage(bench.path('a.raw'));
  makeImage(bench.path('zero.raw'), 3 * CLUSTER);
  const disks = ['--disk', 'drive-scsi0=a.raw', '--disk', 'z=zero.raw'];
  await bench.json(['backup', '100', ...disks, '--time', '1000000000']);
  patch(bench.path('a.raw'), 6 * CLUSTER + 5, noise(1));
  await bench.json(['backup', '100', ...disks, '--time', '1000000001']);
  await bench.json(['backup', 'ns/vm/100', '--disk', 'd=a.raw', '--time', '900000000']);
  await bench.json(['backup', '9', '--disk', 'd=a.raw', '--time', '1100000000']);
});

describe('vmar list', () => {
  it('lists by guest, the newest last', async () => {
    const { backups } = await bench.json(['list']);
    expect(backups.map(({ backup }: { backup: string }) => backup)).toEqual([
      'vm/9/2004-11-09T11:33:20Z',
      FIRST,
      SECOND,
      'ns/vm/100/1998-07-09T16:00:00Z',
    ]);
    expect(backups[1]).toEqual({
      backup: FIRST,
      guest: 'vm/100',
      time: '2001-09-09T01:46:40Z',
      size: SIZE + 3 * CLUSTER,
      disks: [
        { name: 'drive-scsi0', size: SIZE },
        { name: 'z', size: 3 * CLUSTER },
      ],
      protected: false,
    });
  });

  it('lists one guest', async () => {
    const { backups } = await bench.json(['list', 'vm/100']);
    expect(backups).toHaveLength(2);
    expect((await bench.json(['list', 'ns/vm/100'])).backups).toHaveLength(1);
    expect((await bench.json(['list', '9'])).backups).toHaveLength(1);
  });

  it('knows no guest of another name', async () => {
    expect(await bench.error(['list', '1'])).toMatchObject({ exit: 4, code: 'no-such-guest', object: '1' });
    expect(await bench.error(['list', '100'])).toMatchObject({ exit: 2, code: 'ambiguous' });
  });

  it('prints aligned columns', async () => {
    const { status, text, stderr } = await bench.run(['list', 'vm/100']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const lines = text.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^backup +time +size +disks$/);
    expect(lines[2]).toBe(`${SECOND}   2001-09-09 01:46:41   833.2 KiB   drive-scsi0, z`);
  });
});

describe('vmar show', () => {
  it.each([FIRST, 'vm/100/2001-09-09T01:46:40', '100/2001-09-09T01:46:40Z'])('finds %s', async (name) => {
    expect(await bench.json(['show', name])).toMatchObject({ backup: FIRST });
  });

  it.each(['vm/100', 'vm/100/latest'])('finds the newest by %s', async (name) => {
    expect(await bench.json(['show', name])).toMatchObject({ backup: SECOND });
  });

  it('tells everything', async () => {
    const document = await bench.json(['show', FIRST]);
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
    expect(document).toEqual({
      backup: FIRST,
      guest: 'vm/100',
      time: '2001-09-09T01:46:40Z',
      consistency: 'offline',
      source: 'image',
      writer: `vmar ${version}`,
      sequence: 1,
      started: expect.stringMatching(/^20\d\d-.*Z$/),
      finished: expect.stringMatching(/^20\d\d-.*Z$/),
      disks: [
        {
          name: 'drive-scsi0',
          kind: 'disk',
          size: SIZE,
          levels: 1,
          mapRoot: expect.stringMatching(/^[0-9a-f]{64}$/),
          read: expect.any(Number),
          zero: 6 * CLUSTER,
          unchanged: 0,
          new: 4 * CLUSTER + 1234,
          stored: expect.any(Number),
        },
        {
          name: 'z',
          kind: 'disk',
          size: 3 * CLUSTER,
          levels: 1,
          mapRoot: '0'.repeat(64),
          read: 0,
          zero: 3 * CLUSTER,
          unchanged: 0,
          new: 0,
          stored: 0,
        },
      ],
      configs: [],
      labels: {},
      notes: '',
      protected: false,
      packs: expect.arrayContaining([expect.stringMatching(/^[0-9a-f]{32}$/)]),
    });
  });

  it('is readable', async () => {
    const { status, text } = await bench.run(['show', 'vm/100']);
    expect(status).toBe(0);
    expect(text).toMatch(/^backup {8}vm\/100/);
    expect(text).toMatch(/^drive-scsi0 +disk +641.2 KiB/m);
  });

  it.each(['5', 'vm/5/latest', 'vm/100/1999', '../../etc/passwd.x', 'nonsense'])('knows no %s', async (name) => {
    const { exit } = await bench.error(['show', name === '../../etc/passwd.x' ? 'x/../../etc' : name]);
    expect(exit).toBe(4);
  });

  it('asks which', async () => {
    expect(await bench.error(['show', 'vm/100/2001'])).toMatchObject({ exit: 2, code: 'ambiguous' });
  });
});

describe('vmar diff', () => {
  it('tells what changed, by disk', async () => {
    const document = await bench.json(['diff', FIRST, SECOND]);
    expect(document).toEqual({
      a: FIRST,
      b: SECOND,
      disks: [
        {
          name: 'drive-scsi0',
          changedBytes: 2 * CLUSTER,
          extents: [{ offset: 6 * CLUSTER, length: 2 * CLUSTER }],
        },
        { name: 'z', changedBytes: 0, extents: [] },
      ],
    });
    const { status, text } = await bench.run(['diff', FIRST, SECOND]);
    expect(status).toBe(0);
    expect(text).toMatch(/^drive-scsi0 +128 KiB +1$/m);
    expect(text).toContain(`drive-scsi0   ${6 * CLUSTER} + ${2 * CLUSTER}`);
  });

  it('of a backup with itself is nothing', async () => {
    const { disks } = await bench.json(['diff', 'vm/100', SECOND]);
    expect(disks.map((disk: { changedBytes: number }) => disk.changedBytes)).toEqual([0, 0]);
  });

  it('tells disks that came or went, and longer ones', async () => {
    makeImage(bench.path('g.raw'), CLUSTER, [{ at: 0, bytes: noise() }]);
    await bench.json(['backup', 'grown', '--disk', 'd=g.raw', '--disk', 'old=g.raw', '--time', '1']);
    makeImage(bench.path('h.raw'), 3 * CLUSTER + 10, [{ at: 0, bytes: readFileSync(bench.path('g.raw')) }]);
    await bench.json(['backup', 'grown', '--disk', 'd=h.raw', '--disk', 'new=g.raw', '--time', '2']);
    const document = await bench.json(['diff', 'vm/grown/1970-01-01T00:00:01Z', 'grown/latest']);
    expect(document.disks).toEqual([
      { name: 'd', changedBytes: 2 * CLUSTER + 10, extents: [{ offset: CLUSTER, length: 2 * CLUSTER + 10 }] },
    ]);
    expect(document.onlyIn).toEqual({ a: ['old'], b: ['new'] });
  });

  it('refuses different guests, and backups that were made differently', async () => {
    expect(await bench.error(['diff', '9', 'vm/100'])).toMatchObject({ exit: 2, code: 'other-guest' });
    await bench.json(['init', 'other', '--cluster-size', '128KiB']);
    await bench.json(['backup', '100', '--disk', 'd=a.raw', '--output', 'x.vmar']);
    await bench.json(['backup', '9', '--disk', 'd=a.raw', '--datastore', 'other']);
    expect(await bench.error(['diff', '9', 'x.vmar', '--datastore', 'other'])).toMatchObject({
      exit: 2,
      code: 'not-comparable',
      object: 'd',
    });
    expect(await bench.json(['diff', '9', 'x.vmar'])).toMatchObject({ disks: [{ name: 'd', changedBytes: 0 }] });
  });
});

describe('a damaged manifest', () => {
  it('is listed as damaged, and stops no other', async () => {
    const path = bench.path('store', 'manifests', `${FIRST}.manifest`);
    const whole = readFileSync(path);
    const flipped = Buffer.from(whole);
    flipped[100]! ^= 1;
    writeFileSync(path, flipped);
    const { status, json } = await bench.run(['--json', 'list', 'vm/100']);
    expect(status).toBe(3);
    expect(json()).toMatchObject({
      backups: [{ backup: SECOND }],
      damaged: [{ backup: FIRST, file: path, message: expect.any(String) }],
    });
    const { text } = await bench.run(['list']);
    expect(text).toMatch(new RegExp(`^${FIRST} .*damaged$`, 'm'));
    expect(await bench.error(['show', FIRST])).toMatchObject({ exit: 3, object: path });
    expect(await bench.json(['show', SECOND])).toMatchObject({ backup: SECOND });
    writeFileSync(path, whole);
    expect((await bench.run(['list'])).status).toBe(0);
  });
});
