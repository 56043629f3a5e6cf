// SPDX-License-Identifier: MIT
// Calendar events mean what systemd takes them to mean: where its own program is there, it is asked.

import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UsageError } from '#vmar/src/base/errors.js';
import { nextRun, parseSchedule } from '#vmar/src/nightly/schedule.js';
import { seededRandom } from '../base/random.js';

const zone = process.env.TZ;
beforeAll(() => {
  process.env.TZ = 'Europe/Berlin';
});
afterAll(() => {
  if (zone === undefined) delete process.env.TZ;
  else process.env.TZ = zone;
});

/** The next runs, as local times. */
function runs(text: string, after: string, count = 1): string[] {
  const schedule = parseSchedule(text);
  const found: string[] = [];
  let millis = new Date(after).getTime();
  for (let i = 0; i < count; i++) {
    millis = nextRun(schedule, millis);
    if (millis === Number.POSITIVE_INFINITY) return [...found, 'never'];
    found.push(local(millis));
  }
  return found;
}

function local(millis: number): string {
  const date = new Date(millis);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

describe('a calendar event', () => {
  it.each([
    ['daily', '2026-11-21 13:00', ['2026-11-22 00:00:00', '2026-11-23 00:00:00']],
    ['02:00', '2026-11-21 01:59:59', ['2026-11-21 02:00:00', '2026-11-22 02:00:00']],
    ['02:00', '2026-11-21 02:00:00', ['2026-11-22 02:00:00']],
    ['Mon..Fri 22:30', '2026-11-20 22:30', ['2026-11-23 22:30:00', '2026-11-24 22:30:00']],
    ['Sat *-*-1..7 04:00', '2026-11-21 00:00', ['2026-12-05 04:00:00', '2027-01-02 04:00:00']],
    ['*-*-* 0/6:15', '2026-11-21 06:15', ['2026-11-21 12:15:00', '2026-11-21 18:15:00', '2026-11-22 00:15:00']],
    ['*:0/20', '2026-11-21 23:50', ['2026-11-22 00:00:00', '2026-11-22 00:20:00']],
    ['weekly', '2026-11-21 00:00', ['2026-11-23 00:00:00']],
    ['quarterly', '2026-11-21 00:00', ['2027-01-01 00:00:00', '2027-04-01 00:00:00']],
    ['Sun,Wed 3:5:9', '2026-11-21 00:00', ['2026-11-22 03:05:09', '2026-11-25 03:05:09']],
    ['02-29', '2026-11-21 00:00', ['2028-02-29 00:00:00', '2032-02-29 00:00:00']],
    ['*-*-31 12:00', '2026-11-21 00:00', ['2026-12-31 12:00:00', '2027-01-31 12:00:00', '2027-03-31 12:00:00']],
    ['2020-01-01', '2026-11-21 00:00', ['never']],
    ['*-02-30', '2026-11-21 00:00', ['never']],
    ['2199-12-31 23:59:59', '2026-11-21 00:00', ['2199-12-31 23:59:59', 'never']],
  ])('%s after %s', (text, after, expected) => {
    expect(runs(text, after, expected.length)).toEqual(expected);
  });

  it('is once where the clocks go back, and left out where they jump over it', () => {
    expect(runs('02:30', '2026-10-24 12:00', 2)).toEqual(['2026-10-25 02:30:00', '2026-10-26 02:30:00']);
    // Asked in the hour that comes for the second time, as systemd after a restart: what is left of it counts.
    expect(nextRun(parseSchedule('02:30'), Date.parse('2026-10-25T01:10:00Z'))).toBe(
      Date.parse('2026-10-25T01:30:00Z'),
    );
    expect(nextRun(parseSchedule('*:0/40'), Date.parse('2026-10-25T01:45:00Z'))).toBe(
      Date.parse('2026-10-25T02:00:00Z'),
    );
    expect(nextRun(parseSchedule('*:0/40'), Date.parse('2026-10-25T00:45:00Z'))).toBe(
      Date.parse('2026-10-25T02:00:00Z'),
    );
    expect(runs('02:30', '2026-03-28 12:00', 1)).toEqual(['2026-03-30 02:30:00']);
    expect(runs('hourly', '2026-03-29 01:00', 1)).toEqual(['2026-03-29 03:00:00']);
  });

  it('is spelled as systemd takes it', () => {
    expect(parseSchedule('Mon */3-*/5-*/9 */7:*/25:*/31').text).toBe('Mon 1970/3-1/5-1/9 0/7:0/25:0/31');
    expect(parseSchedule('*/5-* *:*').text).toBe('1/5-* *:*');
  });

  it.each([
    '',
    'sometimes',
    '25:00',
    '02:60',
    'Mon..Xyz 02:00',
    '*-13-01',
    '02:00 daily',
    'Fri..Mon 02:00',
    '*:0/0',
    '*:0/90',
    '*:*/60',
    '20/4:00',
    '1-2-3-4',
    '5..3:00',
  ])('%j is refused, and it is said what was expected', (text) => {
    expect(() => parseSchedule(text)).toThrow(UsageError);
    expect(() => parseSchedule(text)).toThrow(
      expect.objectContaining({ object: text, expected: expect.stringContaining('Mon..Fri 22:30') }),
    );
  });
});

const systemd = spawnSync('systemd-analyze', ['--version']).status === 0;
if (!systemd) console.warn('SKIPPED: schedules are not compared with systemd: systemd-analyze is not installed');

describe.skipIf(!systemd)('systemd', () => {
  it.each([
    '2026-11-21T13:00:00Z',
    // Just before the clocks change, to and fro.
    '2026-03-28T13:00:00Z',
    '2026-10-24T13:00:00Z',
    // Amid the hour that comes twice, each time.
    '2026-10-25T00:17:23Z',
    '2026-10-25T01:17:23Z',
  ])('names the same times after %s', (base) => {
    const seed = Number(process.env.VMAR_TEST_SEED ?? Date.now() % 1e6);
    const random = seededRandom(seed);
    const pick = <Item>(items: readonly Item[]): Item => items[random.integer(0, items.length - 1)]!;
    const texts = Array.from({ length: 40 }, () => {
      const weekdays = pick(['', '', 'Mon ', 'Mon..Fri ', 'Sat,Sun ', 'Tue..Thu,Sun ']);
      const date = pick([
        '',
        '*-*-* ',
        '*-*-1..7 ',
        '*-1,4,7,10-1 ',
        '*-*-31 ',
        '*-2-29 ',
        '2027-*-10/5 ',
        '*-6..8-* ',
      ]);
      const time = pick([
        '02:00',
        '23:59:59',
        '0/6:15',
        '*:0/20',
        '8..18/5:30',
        '2:30',
        '*:30',
        '1,13:7',
        '*:*:30',
        '*/7:*/25:*/31',
        '5..9/3:0',
      ]);
      // systemd gives up on leap days that must be Mondays.
      return (date.startsWith('*-2-29') ? '' : weekdays) + date + time;
    });
    const asked = spawnSync(
      'systemd-analyze',
      [
        'calendar',
        '--iterations=4',
        `--base-time=${base.replace('T', ' ').replace('Z', ' UTC')}`,
        ...texts.map((text) => parseSchedule(text).text),
      ],
      {
        encoding: 'utf8',
        env: { ...process.env, TZ: 'Europe/Berlin', LC_ALL: 'C' },
      },
    );
    expect(asked.stderr).toBe('');
    const blocks = asked.stdout.trim().split(/\n\n/);
    expect(blocks).toHaveLength(texts.length);
    for (const [index, text] of texts.entries()) {
      const theirs = [...blocks[index]!.matchAll(/(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+) CES?T/g)].map(
        ([, at]) => at,
      );
      const ours = runs(text, base, 4).filter((at) => at !== 'never');
      expect({ seed, text, runs: ours }).toEqual({ seed, text, runs: theirs });
    }
  });
});
