// SPDX-License-Identifier: MIT
// vmar verify --older-than and --budget: portions that end in time, and go on where the last one ended, also after kill -9.
// And damage from the command line: remembered, told by list, show and status, healed by the next backup, taken away by gc.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { SILENT } from '#vmar/src/base/log.js';
import { VerifyHistory } from '#vmar/src/store/verify-history.js';
import { seededRandom } from '../base/random.js';
import { Bench } from './bench.js';

const GUESTS = 5;
const DISK_BYTES = 3 << 20;

describe('verify in portions', () => {
  const bench = new Bench();
  const packs = (): string[] =>
    readdirSync(join(bench.store, 'packs'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.vmar'),
    );

  beforeAll(async () => {
    await bench.json(['init', 'store']);
    for (let guest = 0; guest < GUESTS; guest++) {
      writeFileSync(bench.path('d.raw'), seededRandom(guest).bytes(DISK_BYTES));
      await bench.json(['backup', `${guest}`, '--disk', 'd=d.raw']);
    }
  }, 60_000);

  it.each([
    [['--budget', 'long'], 'bad-duration'],
    [['--older-than', '0d'], 'bad-duration'],
    [['--older-than', '30d', '--quick'], 'not-together'],
    [['--budget', '1h', 'x.vmar'], 'not-together'],
  ])('%s is wrong usage', async (words, code) => {
    expect(await bench.error(['verify', ...words])).toMatchObject({ exit: 2, code });
  });

  it('ends with 0 when the budget is used up, and says what is left', async () => {
    const document = await bench.json(['verify', '--budget', '0.001s']);
    expect(document).toMatchObject({ ok: true, schedule: { budgetReached: true } });
    expect(document.schedule.packsRead + document.schedule.packsLeft).toBe(2 * GUESTS);
    const { status, text } = await bench.run(['verify', '--older-than', '30d', '--budget', '0.001s']);
    expect([status, text]).toEqual([0, expect.stringMatching(/the budget is used up: .*due for the next run/)]);
  });

  it('goes on where one that was killed stopped', async () => {
    // Slow, and every pack is due.
    const { child, finished } = bench.start(['verify', '--budget', '1h', '--portable', '--workers', '0']);
    const start = Date.now();
    const readSince = async (): Promise<number> => {
      const history = await VerifyHistory.read(bench.store, SILENT);
      const ids = packs().map((name) => name.slice(-37, -5));
      return ids.filter((id) => (history.packReadMillis(id) ?? 0) >= start).length;
    };
    while ((await readSince()) === 0 && child.exitCode === null) await delay(5);
    child.kill('SIGKILL');
    await finished;
    const read = await readSince();
    expect(read).toBeGreaterThan(0);
    const seconds = (Date.now() - start) / 1000;
    const { schedule } = await bench.json(['verify', '--older-than', `${seconds.toFixed(3)}s`]);
    expect(schedule).toMatchObject({ packsLeft: 0, backupsLeft: 0, budgetReached: false });
    expect(schedule.packsRead).toBeLessThanOrEqual(2 * GUESTS - read + 1);
  });
});

it('damage is remembered, marked, healed by the next backup, and taken away by gc', async () => {
  const bench = new Bench();
  await bench.json(['init', 'store']);
  writeFileSync(bench.path('d.raw'), seededRandom(1).bytes(DISK_BYTES));
  const { backup: old } = await bench.json(['backup', '100', '--disk', 'd=d.raw', '--time', '1000000000']);
  const directory = join(bench.store, 'packs');
  const sizes = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.vmar'))
    .map((name) => ({ path: join(directory, name), bytes: readFileSync(join(directory, name)) }));
  const { path, bytes } = sizes.sort((a, b) => b.bytes.length - a.bytes.length)[0]!;
  bytes[1_500_000]! ^= 1;
  writeFileSync(path, bytes);
  expect((await bench.run(['verify'])).status).toBe(3);
  expect((await bench.json(['list'])).backups).toMatchObject([{ backup: old, damaged: true }]);
  expect((await bench.run(['list'])).text).toContain('d (damaged)');
  expect(await bench.json(['show', old])).toMatchObject({ damaged: true, damagedDisks: ['d'] });
  expect((await bench.run(['show', old])).text).toMatch(/DAMAGED +disk d/);
  expect((await bench.run(['status'])).text).toContain('damaged');

  const again = await bench.json(['backup', '100', '--disk', 'd=d.raw', '--time', '1000086400']);
  expect(again.disks[0].new).toBeGreaterThan(0);
  expect(again.disks[0].new).toBeLessThan(DISK_BYTES);
  const healed = await bench.run(['--json', 'verify', old]);
  expect(healed.json().damage.map(({ backups }: { backups: string[] }) => backups)).toEqual([[]]);
  expect((await bench.json(['list'])).backups.map(({ damaged }: { damaged?: true }) => damaged)).toEqual([
    undefined,
    undefined,
  ]);
  await bench.json(['restore', old, '--disk', `d=${bench.path('out.raw')}`]);
  expect(readFileSync(bench.path('out.raw')).equals(readFileSync(bench.path('d.raw')))).toBe(true);
  expect(await bench.json(['gc'])).toMatchObject({ plan: [{ fate: 'damaged' }], damaged: [], rewritten: { packs: 1 } });
  expect((await bench.run(['verify'])).status).toBe(0);
});
