// SPDX-License-Identifier: MIT
// Many processes in one datastore at once.

import { readdirSync, rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../base/random.js';
import { Bench, type Json } from '../cli/bench.js';
import { CLUSTER, makeImage, untilLocked } from '../cli/images.js';
import { fileHolds } from './changing-image.js';

/** Clusters that all guests have, as those of one operating system. */
const SHARED = seededRandom(1).bytes(64 * CLUSTER);

interface Image {
  readonly guest: string;
  readonly file: string;
  readonly content: Buffer;
}

/** An image half of which is shared with all others. */
function imageOf(bench: Bench, guest: string): Image {
  const own = seededRandom([...guest].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7)).bytes(
    64 * CLUSTER + 99,
  );
  const content = Buffer.concat([SHARED, own]);
  const file = makeImage(bench.path(`${guest}.raw`), content.length, [{ at: 0, bytes: content }]);
  return { guest, file, content };
}

const backupWords = ({ guest, file }: Image, ...more: string[]) => ['backup', guest, '--disk', `d=${file}`, ...more];

async function expectRestores(bench: Bench, { guest, content }: Image): Promise<void> {
  const target = bench.path(`${guest}-restored.raw`);
  await bench.json(['restore', guest, '--disk', `d=${target}`]);
  expect(fileHolds(target, content), guest).toBe(true);
  rmSync(target);
}

async function newStore(): Promise<Bench> {
  const bench = new Bench();
  await bench.json(['init', bench.store]);
  return bench;
}

describe.each([2, 4])('%i backups of different guests at once', (count) => {
  it('all succeed, beside verify and restore, and share what they have in common', async () => {
    const bench = await newStore();
    const early = imageOf(bench, 'early');
    await bench.json(backupWords(early));
    const images = Array.from({ length: count }, (_, at) => imageOf(bench, `guest${at}`));
    const backups = Promise.all(images.map((image) => bench.json(backupWords(image, '--speed', '4MiB'))));
    let areOver = false;
    const watched = backups.finally(() => {
      areOver = true;
    });
    do {
      await Promise.all([expectRestores(bench, early), bench.json(['verify'])]);
    } while (!areOver);
    await watched;
    for (const { disks } of await backups) {
      // The shared half came with the first backup; the rest is each guest's own.
      expect(disks[0].new).toBe(64 * CLUSTER + 99);
    }
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
    for (const image of images) await expectRestores(bench, image);
  });

  it('of the same content leave it known to those that follow', async () => {
    const bench = await newStore();
    const images = Array.from({ length: count }, (_, at) => imageOf(bench, `guest${at}`));
    await Promise.all(images.map((image) => bench.json(backupWords(image))));
    const again = await Promise.all(images.map((image) => bench.json(backupWords(image))));
    expect(again.map(({ disks }) => disks[0].stored)).toEqual(images.map(() => 0));
    const late: Image = { ...images[0]!, guest: 'late' };
    expect((await bench.json(backupWords(late))).disks[0]).toMatchObject({ new: 0, stored: 0 });
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
    expect((await bench.json(['list'])).backups).toHaveLength(2 * count + 1);
    for (const image of [...images, late]) await expectRestores(bench, image);
  });
});

describe('two backups of one guest at once', () => {
  it('the second is told at once, or waits for its turn', async () => {
    const bench = await newStore();
    const image = imageOf(bench, '100');
    const first = bench.start(['--json', ...backupWords(image, '--speed', '4MiB')]);
    await untilLocked(image.file, first);
    first.child.kill('SIGSTOP');
    const waiting = bench.json(backupWords(image, '--wait'));
    expect(await bench.error(backupWords(image))).toMatchObject({ exit: 5, code: 'guest-busy' });
    // Other guests do not mind.
    await bench.json(backupWords({ ...image, guest: '101' }));
    first.child.kill('SIGCONT');
    const done = await first.finished;
    expect(done.status, done.stderr).toBe(0);
    const second: Json = await waiting;
    expect(second.disks[0]).toMatchObject({ unchanged: image.content.length, new: 0 });
    expect(second.backup > done.json().backup).toBe(true);
    expect((await bench.json(['list', '100'])).backups).toHaveLength(2);
    expect(await bench.json(['verify'])).toMatchObject({ ok: true });
  });
});

describe('hosts that know nothing of each other', () => {
  it('back up into one datastore at once, each with an index of its own', async () => {
    const bench = await newStore();
    const images = ['a', 'b', 'c'].map((guest) => imageOf(bench, guest));
    const host = (name: string) => ({ env: { VMAR_CACHE_DIR: bench.path(`cache-${name}`) } });
    for (let night = 0; night < 2; night++) {
      await Promise.all(images.map((image) => bench.json(backupWords(image), host(image.guest))));
    }
    for (const name of ['a', 'late']) expect(await bench.json(['verify'], host(name))).toMatchObject({ ok: true });
    const late: Image = { ...images[0]!, guest: 'late' };
    expect((await bench.json(backupWords(late), host('c'))).disks[0]).toMatchObject({ new: 0, stored: 0 });
    for (const image of [...images, late]) await expectRestores(bench, image);
  });
});

describe('two restores to one file at once', () => {
  it('make one file, whole, and tell who came too late', async () => {
    const bench = await newStore();
    const image = imageOf(bench, '100');
    await bench.json(backupWords(image));
    const words = ['restore', '100', '--to', bench.path('restored')];
    const results = await Promise.all([bench.run(['--json', ...words]), bench.run(['--json', ...words])]);
    expect(results.filter(({ status }) => status === 0).length).toBeGreaterThan(0);
    for (const { status, stderr } of results) expect([0, 1, 5], stderr).toContain(status);
    expect(readdirSync(bench.path('restored'))).toEqual(['d.raw']);
    expect(fileHolds(bench.path('restored', 'd.raw'), image.content)).toBe(true);
  });
});
