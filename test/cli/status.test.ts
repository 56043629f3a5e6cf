// SPDX-License-Identifier: MIT

import { beforeAll, describe, expect, it } from 'vitest';
import { humanAge } from '#vmar/src/cli/human.js';
import { parseDuration } from '#vmar/src/cli/parse-duration.js';
import { damage, makeBackups } from './bare-backups.js';
import { Bench } from './bench.js';
import { mixedImage } from './images.js';

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
    expect(lines[0]).toMatch(/^guest {4}last good backup {6}age +size {3}backups$/);
    expect(lines[2]).toMatch(/^vm\/10 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {3}2 days +0 B +1 {3}overdue$/);
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
