// SPDX-License-Identifier: MIT

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { humanAge } from '#vmar/src/cli/human.js';
import { parseDuration } from '#vmar/src/cli/parse-duration.js';
import { changeDamage } from '#vmar/src/store/damage-list.js';
import { openDatastore } from '#vmar/src/store/datastore.js';
import { damage, makeBackups } from './bare-backups.js';
import { Bench } from './bench.js';
import { mixedImage } from './images.js';
import { parsePrometheus } from './prometheus.js';

const bench = new Bench();
const HOUR = 3600;
const now = Math.floor(Date.now() / 1000);
const id = (guest: string, hoursAgo: number): string =>
  `${guest}/${new Date((now - hoursAgo * HOUR) * 1000).toISOString().slice(0, 19)}Z`;

beforeAll(async () => {
  await bench.json(['init', bench.store]);
  mixedImage(bench.path('a.raw'));
  await bench.json(['backup', '9', '--disk', 'd=a.raw', '--disk', 'e=a.raw', '--time', String(now - HOUR)]);
  makeBackups(bench.store, [id('vm/9', 25), id('vm/10', 49), id('a/vm/9', 3)]);
});

describe('vmar status', () => {
  it('tells of each guest its last backup, its age and size, and how many there are', async () => {
    const document = await bench.json(['status']);
    expect(document.ok).toBe(true);
    expect(document.guests).toMatchObject([
      { guest: 'vm/9', last: id('vm/9', 1), backups: 2, overdue: false },
      { guest: 'vm/10', last: id('vm/10', 49), backups: 1, size: 0, overdue: false },
      { guest: 'a/vm/9', last: id('a/vm/9', 3), backups: 1 },
    ]);
    const { size } = (await bench.json(['list', 'vm/9'])).backups[1];
    expect(document.guests[0].size).toBe(size);
    expect(document.guests[1].age).toBeGreaterThanOrEqual(49 * HOUR);
    expect(document.guests[1].age).toBeLessThan(50 * HOUR);
    expect((await bench.json(['status', 'a/vm/9', '10'])).guests).toHaveLength(2);
    expect(await bench.error(['status', '77'])).toMatchObject({ exit: 4 });
  });

  it('exits with 1 if a guest is overdue', async () => {
    const { status, json } = await bench.run(['--json', 'status', '--max-age', '2d']);
    expect(status).toBe(1);
    expect(json()).toMatchObject({ ok: false, maxAge: 48 * HOUR });
    expect(json().guests.map(({ overdue }: { overdue: boolean }) => overdue)).toEqual([false, true, false]);
    const text = await bench.run(['status', '--max-age', '2d']);
    expect(text.status).toBe(1);
    const lines = text.text.split('\n');
    expect(lines[0]).toMatch(/^guest {4}last good backup {6}age +size {3}backups {3}verified$/);
    expect(lines[2]).toMatch(/^vm\/10 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {3}2 days +0 B +1 {3}never +overdue$/);
    expect((await bench.run(['status', '--max-age', '50h'])).status).toBe(0);
    expect((await bench.run(['status', 'vm/9', '--max-age', '2h'])).status).toBe(0);
    expect(await bench.error(['status', '--max-age', '26'])).toMatchObject({ exit: 2, code: 'bad-duration' });
  });

  it('does not take a damaged backup for a good one', async () => {
    makeBackups(bench.store, [id('vm/5', 40), id('vm/5', 1)]);
    const path = damage(bench.store, id('vm/5', 1), 'manifest');
    const { status, json, stderr } = await bench.run(['--json', 'status', '5']);
    expect(status).toBe(3);
    expect(stderr).toContain(path);
    expect(json()).toMatchObject({
      ok: false,
      guests: [{ last: id('vm/5', 40), damaged: [{ backup: id('vm/5', 1) }] }],
    });
    expect((await bench.run(['status', '5', '--max-age', '26h'])).status).toBe(1);
    damage(bench.store, id('vm/5', 40), 'manifest');
    const none = await bench.run(['status', '5', '--max-age', '26h']);
    expect(none.status).toBe(1);
    expect(none.text).toMatch(/^vm\/5 +none +2 +overdue; 2 backups damaged$/m);
  });

  it('does not take a backup of the future for a fresh one', async () => {
    makeBackups(bench.store, [id('vm/6', 40), 'vm/6/2999-01-01T02:00:00Z', 'vm/7/2999-01-01T02:00:00Z']);
    const { status, json } = await bench.run(['--json', 'status', '6', '7', '--max-age', '26h']);
    expect(status).toBe(1);
    expect(json().guests).toMatchObject([
      { last: id('vm/6', 40), overdue: true, inFuture: 1 },
      { last: 'vm/7/2999-01-01T02:00:00Z', overdue: true, inFuture: 1 },
    ]);
    expect(json().guests[1]).not.toHaveProperty('age');
  });

  it('knows an empty datastore', async () => {
    await bench.json(['init', bench.path('empty')]);
    const empty = ['--datastore', bench.path('empty'), 'status', '--max-age', '1h'];
    expect(await bench.run(empty)).toMatchObject({ status: 0, text: 'no backups\n' });
    expect(await bench.json(empty)).toMatchObject({ ok: true, guests: [] });
  });
});

describe('vmar status with a configuration', () => {
  const config = bench.path('vmar.yaml');
  const at = (millis: number): string => new Date(millis).toISOString().slice(0, 19);
  const ago = (hours: number): Date => new Date((now - hours * HOUR) * 1000);
  /** A daily schedule, by the hour and minute of that time. */
  const daily = (date: Date): string => `${date.getUTCHours()}:${String(date.getUTCMinutes()).padStart(2, '0')}`;
  const writeConfig = (schedule: string, more = ''): void =>
    writeFileSync(
      config,
      [
        `datastores: {here: ${bench.path('planned')}, away: /nowhere/store}`,
        'guests:',
        ...['1', '2', 'ns/vm/3', '8', '9'].map((name) => `  "${name}": {disks: {d: /dev/null}}`),
        'jobs:',
        `  nightly: {guests: ["1", "2", "ns/vm/*", "8"], exclude: "2", datastore: here, schedule: "${schedule}"${more}}`,
        '  other: {guests: ["9"], datastore: away, schedule: "02:00"}',
        '',
      ].join('\n'),
    );
  const words = ['--datastore', bench.path('planned'), 'status', '--config-file', config];

  beforeAll(async () => {
    await bench.json(['init', bench.path('planned')]);
    makeBackups(bench.path('planned'), [id('vm/1', 40), id('vm/1', 3), id('vm/2', 300), id('ns/vm/3', 27)]);
  });

  it('knows by the schedule who is overdue, and when the next run is', async () => {
    // Eight hours ago: guest 1 has been backed up since, guest 3 has not, guest 2 is in no job, 8 was never backed up.
    writeConfig(daily(ago(8)));
    const { status, json } = await bench.run(['--json', ...words]);
    expect(status).toBe(1);
    const next = new Date(ago(8).getTime() + 24 * HOUR * 1000);
    next.setUTCSeconds(0);
    expect(json().guests).toEqual([
      expect.objectContaining({ guest: 'vm/1', overdue: false, jobs: ['nightly'], nextRun: `${at(next.getTime())}Z` }),
      expect.not.objectContaining({ jobs: expect.anything() }),
      expect.objectContaining({ guest: 'vm/8', overdue: true, why: 'none', backups: 0, size: 0 }),
      expect.objectContaining({
        ...{ guest: 'ns/vm/3', overdue: true, why: 'missed' },
        missed: `${at(next.getTime() - 24 * HOUR * 1000)}Z`,
      }),
    ]);
    const { text } = await bench.run(words);
    const lines = text.split('\n');
    expect(lines[0]).toMatch(/backups {3}verified {3}next run$/);
    expect(lines[1]).toMatch(/^vm\/1 .* never +\d{4}-\d\d-\d\d \d\d:\d\d:00$/);
    expect(lines[4]).toMatch(/^ns\/vm\/3 .* overdue: nightly of \d{4}-\d\d-\d\d \d\d:\d\d:00 is missing$/);
    expect((await bench.run([...words, '1', '2'])).status).toBe(0);
    expect((await bench.run([...words, '8'])).status).toBe(1);
    expect(await bench.error([...words, '9'])).toMatchObject({ exit: 4 });
  });

  it('gives a night that may still be under way some hours', async () => {
    writeConfig(daily(ago(5)));
    const guests = ['1', 'ns/vm/3'];
    expect((await bench.json([...words, ...guests])).ok).toBe(true);
    // Hourly, so that two runs are missing.
    writeConfig('*:00');
    expect((await bench.run([...words, ...guests])).status).toBe(1);
  });

  it("takes the job's own max-age, and the one of the command line", async () => {
    writeConfig(daily(ago(8)), ', max-age: 28h');
    expect((await bench.json([...words, 'ns/vm/3'])).guests).toMatchObject([{ overdue: false }]);
    writeConfig(daily(ago(8)), ', max-age: 2h');
    expect((await bench.run(['--json', ...words, '1'])).json().guests).toMatchObject([
      { overdue: true, why: 'too-old' },
    ]);
    writeConfig(daily(ago(2)));
    expect((await bench.run([...words, '1', '--max-age', '2h'])).status).toBe(1);
  });

  it('knows guests that a pattern finds, although none was ever backed up', async () => {
    mkdirSync(bench.path('run'));
    for (const name of ['1.qmp', '77.qmp', '78.qmp', 'a b.qmp', '1.log']) writeFileSync(bench.path('run', name), '');
    const found = bench.path('found.yaml');
    const lines = [
      `datastores: {here: ${bench.path('planned')}}`,
      `guests: {"*": {qmp: "${bench.path('run')}/*.qmp"}, "n/vm/*": {qmp: "/nowhere/*.qmp"}}`,
      'jobs: {nightly: {guests: all, exclude: "78", datastore: here, schedule: "02:00"}}',
    ];
    writeFileSync(found, `${lines.join('\n')}\n`);
    const { json } = await bench.run([
      '--json',
      '--datastore',
      bench.path('planned'),
      'status',
      '--config-file',
      found,
    ]);
    expect(json().guests).toMatchObject([
      { guest: 'vm/1', backups: 2, jobs: ['nightly'] },
      { guest: 'vm/2', jobs: ['nightly'] },
      { guest: 'vm/77', backups: 0, overdue: true, why: 'none', jobs: ['nightly'] },
      { guest: 'ns/vm/3' },
    ]);
  });

  it('takes the datastore from a configuration that has one, and tells what is wrong with others', async () => {
    const env = { VMAR_DATASTORE: undefined };
    const status = (file: string) => ['status', '--config-file', file];
    expect(await bench.error(status(config), { env })).toMatchObject({ exit: 2, code: 'no-datastore', object: config });
    writeFileSync(bench.path('one.yaml'), `datastores: {here: ${bench.path('planned')}}\njobs: {}\n`);
    expect((await bench.json(status(bench.path('one.yaml')), { env })).guests).toHaveLength(3);
    writeFileSync(bench.path('bad.yaml'), 'datastore: x\n');
    expect(await bench.error(status(bench.path('bad.yaml')))).toMatchObject({ exit: 2, code: 'bad-config' });
    expect(await bench.error(status(bench.path('none.yaml')))).toMatchObject({ exit: 1, code: 'config-unreadable' });
  });

  it('writes metrics, with what is not known left out', async () => {
    writeConfig(daily(ago(8)));
    const file = bench.path('status.prom');
    expect((await bench.run([...words, '--metrics', file])).status).toBe(1);
    const metrics = parsePrometheus(readFileSync(file, 'utf8'));
    const figure = (name: string): Record<string, number> => {
      const samples = metrics.get(name)?.samples ?? new Map<string, number>();
      return Object.fromEntries(
        [...samples].map(([labels, value]) => [/guest="([^"]*)"/.exec(labels)?.[1] ?? '', value]),
      );
    };
    expect(figure('vmar_guest_overdue')).toEqual({ 'vm/1': 0, 'vm/2': 0, 'vm/8': 1, 'ns/vm/3': 1 });
    expect(figure('vmar_guest_backups')).toEqual({ 'vm/1': 2, 'vm/2': 1, 'vm/8': 0, 'ns/vm/3': 1 });
    expect(Object.keys(figure('vmar_guest_last_backup_timestamp_seconds'))).toEqual(['vm/1', 'vm/2', 'ns/vm/3']);
    expect(figure('vmar_guest_last_backup_timestamp_seconds')['vm/1']).toBe(now - 3 * HOUR);
    expect(Object.keys(figure('vmar_guest_next_run_timestamp_seconds'))).toEqual(['vm/1', 'vm/8', 'ns/vm/3']);
    expect(figure('vmar_status_ok')).toEqual({ '': 0 });
    expect(metrics.has('vmar_guest_last_verified_timestamp_seconds')).toBe(false);
  });

  it('does not take a backup for good of which verify found something damaged', async () => {
    const root = bench.path('planned');
    const store = await openDatastore(root, { cacheDir: bench.path('cache') });
    const session = await store.beginSession('maintenance');
    const damaged = {
      packId: 'ab'.repeat(16),
      sinceMillis: 1,
      seenMillis: 1,
      isWhole: true,
      isGone: false,
      isMet: false,
    };
    const rest = { frames: new Set<number>(), chunks: new Set<string>(), problem: 'a frame is damaged', places: 1 };
    const touch = async (...touched: string[]): Promise<void> =>
      void (await changeDamage(store, session, () => [{ ...damaged, ...rest, touched: new Set(touched) }]));
    const plain = ['--datastore', root, 'status', '1'];
    await touch(id('vm/1', 40));
    const older = await bench.run(['--json', ...plain]);
    expect(older.status).toBe(3);
    expect(older.json()).toMatchObject({
      ok: false,
      guests: [{ last: id('vm/1', 3), olderDamaged: [id('vm/1', 40)] }],
    });
    await touch(`${id('vm/1', 3)}:d`);
    const newer = await bench.run(['--json', ...plain, '--max-age', '26h']);
    expect(newer.status).toBe(1);
    expect(newer.json().guests).toMatchObject([
      { last: id('vm/1', 40), overdue: true, damaged: [{ backup: id('vm/1', 3) }] },
    ]);
    expect((await bench.run(plain)).text).toMatch(/1 newer backup damaged$/m);
    await session.end();
    await store.close();
  });
});

describe('spans of time', () => {
  it('are read', () => {
    const flag = '--max-age';
    expect(parseDuration('90s', flag)).toBe(90);
    expect(parseDuration('1.5h', flag)).toBe(5400);
    expect(parseDuration('90min', flag)).toBe(5400);
    expect(parseDuration('30d', flag)).toBe(30 * 24 * HOUR);
    expect(parseDuration('2w', flag)).toBe(14 * 24 * HOUR);
    for (const text of ['', '0h', '-1h', '1', 'h', '1m', '1 h', '1h2', '9999999999h']) {
      expect(() => parseDuration(text, flag), text).toThrowError(expect.objectContaining({ code: 'bad-duration' }));
    }
  });

  it('are told', () => {
    expect(humanAge(5)).toBe('0 min');
    expect(humanAge(3599)).toBe('59 min');
    expect(humanAge(26 * HOUR + 300)).toBe('26 h 05 min');
    expect(humanAge(48 * HOUR)).toBe('2 days');
    expect(humanAge(400 * 24 * HOUR)).toBe('400 days');
  });
});
