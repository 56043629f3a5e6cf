// SPDX-License-Identifier: MIT
// vmar prune: what stays, what it says of each, and that it takes no more than it says.

import { existsSync, rmSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { lockGuest } from '#vmar/src/store/locks.js';
import { RealFs } from '#vmar/src/store/real-fs.js';
import { damage, makeBackups, protect } from './bare-backups.js';
import { Bench } from './bench.js';

const bench = new Bench();
const night = (day: number, guest = 'vm/100'): string => `${guest}/2024-03-${String(day).padStart(2, '0')}T02:00:00Z`;
const nights = (guest?: string): string[] => [26, 27, 28, 29, 30, 31].map((day) => night(day, guest));

beforeEach(async () => {
  rmSync(bench.store, { recursive: true, force: true });
  await bench.json(['init', bench.store]);
  makeBackups(bench.store, nights());
});

async function listed(): Promise<string[]> {
  const { backups, damaged = [] } = (await bench.run(['--json', 'list'])).json();
  return [...backups, ...damaged].map(({ backup }: { backup: string }) => backup).sort();
}

describe('vmar prune', () => {
  it('removes what no rule keeps, guest by guest, and says why of each', async () => {
    // The same times in other guests: each is counted by itself.
    makeBackups(bench.store, [...nights('vm/99').slice(4), ...nights('a/vm/100').slice(0, 1)]);
    const document = await bench.json(['prune', '--keep-last', '1', '--keep-weekly', '1', '--keep-daily', '2']);
    expect(document).toMatchObject({
      dryRun: false,
      timeZone: 'UTC',
      rules: { last: 1, daily: 2, weekly: 1 },
      kept: 6,
    });
    expect(document.removed).toEqual([night(26), night(27), night(28)]);
    expect(document.backups[0]).toEqual({
      backup: night(30, 'vm/99'),
      guest: 'vm/99',
      time: '2024-03-30T02:00:00Z',
      keep: true,
      why: 'rule',
      rule: 'daily',
      period: '2024-03-30',
      index: 1,
      of: 2,
    });
    expect(document.backups.map(({ why }: { why: string }) => why)).toEqual([
      ...['rule', 'rule'],
      ...['no-rule', 'no-rule', 'no-rule', 'rule', 'rule', 'rule'],
      'rule',
    ]);
    expect(await listed()).toEqual([...nights('vm/99').slice(4), ...nights().slice(3), night(26, 'a/vm/100')].sort());
    expect(
      (await bench.json(['prune', '--keep-last', '1', '--keep-weekly', '1', '--keep-daily', '2'])).removed,
    ).toEqual([]);
  });

  it('takes only the guests that are named', async () => {
    makeBackups(bench.store, [...nights('vm/99'), ...nights('a/vm/99')]);
    const { removed } = await bench.json(['prune', 'vm/99', '100', 'vm/99', '--keep-last', '5']);
    expect(removed).toEqual([night(26, 'vm/99'), night(26)]);
    expect(await bench.error(['prune', '99', '--keep-last', '5'])).toMatchObject({ exit: 2, code: 'ambiguous' });
    expect(await bench.error(['prune', 'vm/98', '--keep-last', '5'])).toMatchObject({ exit: 4 });
  });

  it('prints a table, and removes nothing with --dry-run', async () => {
    protect(bench.store, night(27));
    const { status, text } = await bench.run(['prune', '--dry-run', '--keep-last', '2', '--keep-weekly', '1']);
    expect(status).toBe(0);
    expect(text.split('\n')).toEqual([
      'backup                        time                          why',
      'vm/100/2024-03-26T02:00:00Z   2024-03-26 02:00:00   goes    kept by no rule',
      'vm/100/2024-03-27T02:00:00Z   2024-03-27 02:00:00   stays   protected',
      'vm/100/2024-03-28T02:00:00Z   2024-03-28 02:00:00   goes    kept by no rule',
      'vm/100/2024-03-29T02:00:00Z   2024-03-29 02:00:00   goes    kept by no rule',
      'vm/100/2024-03-30T02:00:00Z   2024-03-30 02:00:00   stays   last 2 of 2',
      'vm/100/2024-03-31T02:00:00Z   2024-03-31 02:00:00   stays   last 1 of 2',
      '',
      '3 backups would go, 3 stay; nothing was removed (times of UTC)',
      '',
    ]);
    expect(await listed()).toEqual(nights());
  });

  it("goes by the host's time zone", async () => {
    // 02:00 in UTC is the evening before in New York; 05:00 is not.
    makeBackups(bench.store, ['vm/5/2024-03-05T02:00:00Z', 'vm/5/2024-03-05T05:00:00Z']);
    const words = ['prune', '5', '--keep-daily', '2', '--dry-run'];
    expect((await bench.json(words)).kept).toBe(1);
    expect(await bench.json(words, { env: { TZ: 'America/New_York' } })).toMatchObject({
      timeZone: 'America/New_York',
      kept: 2,
    });
  });

  it('refuses to remove everything', async () => {
    expect(await bench.error(['prune'])).toMatchObject({ exit: 2, code: 'keep-nothing' });
    expect(await bench.error(['prune', '100', '--dry-run'])).toMatchObject({ exit: 2, code: 'keep-nothing' });
    expect(await bench.error(['prune', '--keep-last', '0', '--keep-daily', '0'])).toMatchObject({
      exit: 2,
      code: 'keep-nothing',
    });
    expect(await bench.error(['prune', '--keep-all', '--keep-last', '1'])).toMatchObject({ exit: 2 });
    expect(await bench.error(['prune', '--keep-last', '-1'])).toMatchObject({ exit: 2 });
    expect(await bench.error(['prune', '--keep-last', '1.5'])).toMatchObject({ exit: 2, object: '--keep-last 1.5' });
    expect((await bench.json(['prune', '--keep-all'])).rules).toEqual({ all: true });
    expect(await listed()).toEqual(nights());
  });

  it('keeps protected and damaged backups, counts neither, and tells of damage', async () => {
    protect(bench.store, night(31));
    protect(bench.store, night(30));
    damage(bench.store, night(30), 'sidecar');
    const path = damage(bench.store, night(26), 'manifest');
    const { status, stderr, json } = await bench.run(['--json', 'prune', '--keep-last', '1']);
    expect(status).toBe(3);
    expect(stderr).toContain(path);
    expect(json().removed).toEqual([night(27), night(28)]);
    expect(json().damaged).toMatchObject([{ backup: night(26), file: path }, { backup: night(30) }]);
    expect(await listed()).toEqual([night(26), night(29), night(30), night(31)]);
  });

  it('passes over a guest that is busy, and prunes the others', async () => {
    makeBackups(bench.store, nights('vm/99'));
    const guest = { namespace: '', guestType: 'vm', guestId: '99' } as const;
    const lock = await lockGuest(new RealFs(), bench.store, guest);
    const { status, json, stderr } = await bench.run(['--json', 'prune', '--keep-last', '5']);
    expect(status).toBe(5);
    expect(json().failed).toMatchObject([{ guest: 'vm/99', code: 'guest-busy' }]);
    expect(json().removed).toEqual([night(26)]);
    expect(stderr).toContain('vm/99');
    const dry = await bench.json(['prune', '--keep-last', '5', '--dry-run']);
    expect(dry.removed).toEqual([night(26, 'vm/99')]);
    const waiting = bench.json(['prune', '--keep-last', '5', '--wait=60']);
    setTimeout(() => void lock.release(), 1000);
    expect((await waiting).removed).toEqual([night(26, 'vm/99')]);
  });

  it('keeps the newest backup of the past beside those of a clock that was ahead', async () => {
    const ahead = ['vm/100/2999-01-01T02:00:00Z', 'vm/100/2999-01-02T02:00:00Z'];
    makeBackups(bench.store, ahead);
    const { json, stderr } = await bench.run(['--json', 'prune', '--keep-last', '2']);
    expect(json().removed).toEqual(nights().slice(0, 5));
    expect(stderr).toContain('in the future');
    expect(await listed()).toEqual([night(31), ...ahead]);
  });

  it('says nothing more with --quiet, and knows an empty datastore', async () => {
    expect(await bench.run(['--quiet', 'prune', '--keep-last', '6'])).toMatchObject({
      status: 0,
      text: '',
      stderr: '',
    });
    rmSync(bench.path('store', 'manifests', 'vm'), { recursive: true });
    expect((await bench.run(['prune', '--keep-last', '6'])).text).toBe('no backups\n');
    expect((await bench.json(['prune', '--keep-last', '6'])).backups).toEqual([]);
    expect(existsSync(bench.path('store', 'tmp'))).toBe(true);
  });
});
