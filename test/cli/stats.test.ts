// SPDX-License-Identifier: MIT
// vmar stats from the command line; what it counts is tested in test/archive/stats.test.ts.

import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { damage } from './bare-backups.js';
import { Bench } from './bench.js';
import { CLUSTER, makeImage, noise, patch } from './images.js';
import { parsePrometheus } from './prometheus.js';

const bench = new Bench();
const NIGHT = Date.UTC(2024, 2, 28, 2) / 1000;
const DAY = 86_400;

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  const content = noise(8);
  makeImage(bench.path('a.raw'), 100 * CLUSTER, [{ at: 0, bytes: content }]);
  makeImage(bench.path('b.raw'), 100 * CLUSTER, [{ at: 0, bytes: content.subarray(0, 4 * CLUSTER) }]);
  const backup = async (guest: string, image: string, time: number): Promise<void> =>
    void (await bench.json(['backup', guest, '--disk', `d=${image}`, '--time', String(time)]));
  await backup('100', 'a.raw', NIGHT);
  await backup('ns/vm/7', 'b.raw', NIGHT + 60);
  patch(bench.path('a.raw'), 9 * CLUSTER, noise(2));
  await backup('100', 'a.raw', NIGHT + DAY);
  await backup('100', 'a.raw', NIGHT + 4 * DAY);
});

describe('vmar stats', () => {
  it('tells what each guest takes, what it alone holds, and how it grew', async () => {
    const document = await bench.json(['stats']);
    const size = 100 * CLUSTER;
    expect(document).toMatchObject({ backups: 4, size: 4 * size, logical: (8 + 4 + 10 + 10) * CLUSTER });
    expect(document.guests).toMatchObject([
      { guest: 'vm/100', backups: 3, size: 3 * size, logical: 28 * CLUSTER },
      { guest: 'ns/vm/7', backups: 1, size, logical: 4 * CLUSTER },
    ]);
    // Noise, so what is stored is what is unique; a page of the map is some kilobytes more.
    const [first, second] = document.guests;
    for (const [found, clusters] of [
      [document.unique, 10],
      [document.stored, 10],
      [first.stored, 10],
      [first.alone, 6],
      [second.stored, 4],
    ]) {
      expect(found).toBeGreaterThanOrEqual(clusters * CLUSTER);
      expect(found).toBeLessThan(clusters * CLUSTER + 16_000);
    }
    expect(second.alone).toBeLessThan(4000);
    expect(document.ratio).toBeCloseTo(document.logical / document.stored, 2);
    expect(document.unused).toBe(document.packs.bytes - document.stored);
    expect(document.periods).toMatchObject([
      { period: '2024-03-28', backups: 2, logical: 12 * CLUSTER },
      { period: '2024-03-29', backups: 1 },
      { period: '2024-04-01', backups: 1, logical: 10 * CLUSTER, new: 0, newStored: 0 },
    ]);
    expect(document.periods[2].total).toEqual({
      ...{ backups: 4, logical: document.logical, unique: document.unique },
      ...{ stored: document.stored, ratio: document.ratio },
    });
    const sum = document.periods.reduce((all: number, { new: fresh }: { new: number }) => all + fresh, 0);
    expect(sum).toBe(document.unique);
  });

  it('counts by weeks, months and years of the host, and takes single guests', async () => {
    const periods = async (by: string, env = {}): Promise<string[]> =>
      (await bench.json(['stats', '--by', by], { env })).periods.map(({ period }: { period: string }) => period);
    expect(await periods('week')).toEqual(['2024-W13', '2024-W14']);
    expect(await periods('month')).toEqual(['2024-03', '2024-04']);
    expect(await periods('year')).toEqual(['2024']);
    expect(await periods('day', { TZ: 'America/New_York' })).toEqual(['2024-03-27', '2024-03-28', '2024-03-31']);
    expect((await bench.json(['stats', '7'])).guests).toMatchObject([{ guest: 'ns/vm/7' }]);
    expect(await bench.error(['stats', '8'])).toMatchObject({ exit: 4 });
    expect(await bench.error(['stats', '--by', 'hour'])).toMatchObject({ exit: 2, code: 'bad-period' });
  });

  it('prints tables', async () => {
    const { status, text, stderr } = await bench.run(['stats']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const lines = text.split('\n').map((line) => line.trimEnd());
    expect(lines[0]).toMatch(/^guest {5}backups +size +logical +unique +stored +ratio +alone$/);
    expect(lines[1]).toMatch(
      /^vm\/100 +3 +18\.8 MiB +1\.8 MiB +\d{3}\.?\d* KiB +\d{3}\.?\d* KiB +2\.\d× +\d{3}\.?\d* KiB$/,
    );
    expect(lines[3]).toMatch(/^all +4 +25 MiB +2 MiB /);
    expect(lines[5]).toMatch(/^day +backups +logical +new +stored +stored in all +ratio in all$/);
    expect(lines[8]).toMatch(/^2024-04-01 +1 +640 KiB +0 B +0 B +\d{3}\.?\d* KiB +3\.\d×$/);
    expect(lines[10]).toMatch(/^\d packs of \d{3}\.?\d* KiB, \d+\.?\d* KiB of it needed by no backup, or tables$/);
  });

  it('writes metrics, whole at every moment and readable by all', async () => {
    mkdirSync(bench.path('metrics'));
    const file = bench.path('metrics', 'vmar.prom');
    const document = await bench.json(['stats', '--metrics', file]);
    const metrics = parsePrometheus(readFileSync(file, 'utf8'));
    const store = `datastore="${bench.store}"`;
    expect(metrics.get('vmar_store_stored_bytes')?.samples.get(store)).toBe(document.stored);
    expect(metrics.get('vmar_store_dedup_ratio')?.samples.get(store)).toBeCloseTo(document.ratio, 2);
    expect([...(metrics.get('vmar_guest_alone_bytes')?.samples ?? [])]).toEqual([
      [`${store},guest="vm/100"`, document.guests[0].alone],
      [`${store},guest="ns/vm/7"`, document.guests[1].alone],
    ]);
    expect(statSync(file).mode & 0o777).toBe(0o644);
    const before = statSync(file).ino;
    symlinkSync(file, bench.path('metrics', 'link'));
    await bench.json(['stats', '--metrics', bench.path('metrics', 'link')]);
    expect(statSync(file).ino).not.toBe(before);
    expect(readdirSync(bench.path('metrics')).sort()).toEqual(['link', 'vmar.prom']);
    const error = await bench.error(['stats', '--metrics', bench.path('nowhere', 'vmar.prom')]);
    expect(error).toMatchObject({ exit: 1, code: 'missing', object: bench.path('nowhere', 'vmar.prom') });
  });

  it('goes on where there is damage, tells of it, and exits with 3', async () => {
    const store = bench.path('damaged');
    const env = { VMAR_DATASTORE: store };
    await bench.json(['init', store]);
    for (const time of [NIGHT, NIGHT + DAY]) {
      await bench.json(['backup', '1', '--disk', 'd=a.raw', '--time', String(time)], { env });
      patch(bench.path('a.raw'), 0, noise());
    }
    const whole = await bench.json(['stats'], { env });
    const path = damage(store, 'vm/1/2024-03-29T02:00:00Z', 'manifest');
    const finished = await bench.run(['--json', 'stats'], { env });
    expect(finished.status).toBe(3);
    expect(finished.stderr).toContain(path);
    expect(finished.json()).toMatchObject({
      backups: 1,
      damaged: [{ backup: 'vm/1/2024-03-29T02:00:00Z', file: path }],
    });
    expect(finished.json().unused).toBeGreaterThan(whole.unused + CLUSTER);
    // All packs are gone: nothing is stored, and nothing can be counted.
    rmSync(`${store}/packs`, { recursive: true });
    const gone = await bench.run(['--json', 'stats'], { env });
    expect(gone.status).toBe(3);
    expect(gone.json()).toMatchObject({ stored: 0, missingChunks: 1, damaged: [{}, { disk: 'd' }] });
  });

  it('knows an empty datastore', async () => {
    await bench.json(['init', bench.path('empty')]);
    const words = ['--datastore', bench.path('empty'), 'stats'];
    expect(await bench.run(words)).toMatchObject({ status: 0, text: 'no backups\n' });
    const document = await bench.json(words);
    expect(document).toMatchObject({ backups: 0, stored: 0, guests: [], periods: [] });
    expect(document).not.toHaveProperty('ratio');
  });
});

describe('the parser of metrics', () => {
  it('refuses what is wrong', () => {
    const good = '# HELP vmar_a_bytes A.\n# TYPE vmar_a_bytes gauge\nvmar_a_bytes{b="c\\"d",e="f"} 1.5\n';
    expect(parsePrometheus(good).get('vmar_a_bytes')?.samples.get('b="c\\"d",e="f"')).toBe(1.5);
    for (const [from, to] of [
      ['# HELP vmar_a_bytes A.\n', ''],
      ['# TYPE vmar_a_bytes gauge\n', ''],
      ['_bytes 1', 'x 1'],
      ['"d"', '"d'],
      [',e', ' e'],
      [',e=', ',b='],
      ['1.5', 'one'],
      ['1.5\n', '1.5'],
      ['HELP vmar_a_bytes', 'HELP vmar_a_kib'],
    ] as const) {
      if (good.includes(from)) expect(() => parsePrometheus(good.replaceAll(from, to)), from).toThrow();
    }
  });
});
