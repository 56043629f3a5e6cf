// SPDX-License-Identifier: MIT
// Retention against a model of another make, against what Proxmox documents, and at the edges of calendars.

import { afterEach, describe, expect, it } from 'vitest';
import { KEEP_RULES, localPeriodOf } from '#vmar/src/store/prune-periods.js';
import { type Keep, type PlannedBackup, type PruneCandidate, planPrune } from '#vmar/src/store/prune-plan.js';
import { seededRandom } from '../base/random.js';
import { ModelCalendar, modelKept } from './prune-model.js';
import { backup } from './samples.js';

const ZONE = process.env.TZ;
const FAR_FUTURE = 10 ** 12;
const HOUR = 3600;
const DAY = 24 * HOUR;

afterEach(() => {
  if (ZONE === undefined) delete process.env.TZ;
  else process.env.TZ = ZONE;
});

const at = (time: string): number => Date.parse(time) / 1000;

function sound(timeSeconds: number): PruneCandidate {
  return { ref: backup(timeSeconds), state: 'sound' };
}

function plan(candidates: readonly PruneCandidate[], keep: Keep, nowSeconds = FAR_FUTURE): PlannedBackup[] {
  return planPrune(candidates, keep, { nowSeconds, periodOf: localPeriodOf });
}

/** The times that stay, ascending, as ISO 8601 without seconds. */
function kept(times: readonly string[], keep: Keep): string[] {
  return plan(
    times.map((time) => sound(at(time))),
    keep,
  )
    .filter(({ decision }) => decision.keep)
    .map(({ ref }) => new Date(ref.timeSeconds * 1000).toISOString().slice(0, 16));
}

function keptTimes(planned: readonly PlannedBackup[]): number[] {
  return planned.filter(({ decision }) => decision.keep).map(({ ref }) => ref.timeSeconds);
}

describe('planPrune against a model', () => {
  const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Pacific/Apia', 'Asia/Kathmandu'];
  it.each(zones)('keeps the same at random times, %s', (zone) => {
    process.env.TZ = zone;
    const calendar = new ModelCalendar(zone);
    const firstSeed = Date.now() % 2 ** 31;
    for (let seed = firstSeed; seed < firstSeed + 150; seed++) {
      const { candidates, keep } = scene(seed);
      const planned = plan(candidates, keep);
      const expected = [...modelKept(candidates, keep, calendar)].sort((a, b) => a - b);
      expect(keptTimes(planned), `seed ${seed}`).toEqual(expected);
      checkProperties(planned, keep, seed);
    }
  });
});

/** Backups of hours to years, often of the days on which clocks change, in no order. */
function scene(seed: number): { candidates: PruneCandidate[]; keep: Exclude<Keep, 'all'> } {
  const random = seededRandom(seed);
  const changes = ['2011-12-30T00:00Z', '2020-12-31T12:00Z', '2024-03-31T01:00Z', '2024-04-06T15:00Z'];
  changes.push('2024-10-27T01:00Z', '2024-11-03T06:00Z', '2024-10-05T15:30Z', '2021-01-03T20:00Z');
  const middle = at(changes[random.integer(0, changes.length - 1)]!);
  const spread = [4 * HOUR, 3 * DAY, 40 * DAY, 1000 * DAY][random.integer(0, 3)]!;
  const times = new Set<number>();
  for (let left = random.integer(0, 80); left > 0; left--) {
    times.add(middle + random.integer(-spread, spread));
    if (random.oneIn(3)) times.add(middle + random.integer(-2 * spread, 2 * spread));
  }
  const rules = KEEP_RULES.filter(() => random.oneIn(2));
  const counts = Object.fromEntries(rules.map((rule) => [rule, random.integer(0, 6)]));
  return { candidates: shuffle([...times], random).map(sound), keep: counts };
}

function shuffle<T>(values: T[], random: ReturnType<typeof seededRandom>): T[] {
  for (let i = values.length - 1; i > 0; i--) {
    const j = random.integer(0, i);
    [values[i], values[j]] = [values[j]!, values[i]!];
  }
  return values;
}

function checkProperties(planned: readonly PlannedBackup[], keep: Exclude<Keep, 'all'>, seed: number): void {
  const word = `seed ${seed}`;
  const stays = keptTimes(planned);
  const keepsAny = Object.values(keep).some((count) => count > 0);
  if (keepsAny && planned.length > 0) expect(stays.at(-1), word).toBe(planned.at(-1)!.ref.timeSeconds);
  // One that was cut off, at any removal, and one that was not: the next keeps the same.
  for (const cut of [0, 1, 3, planned.length]) {
    let toGo = cut;
    const left = planned.filter(({ decision }) => decision.keep || toGo-- <= 0);
    expect(
      keptTimes(
        plan(
          left.map(({ ref }) => sound(ref.timeSeconds)),
          keep,
        ),
      ),
      word,
    ).toEqual(stays);
  }
  for (const rule of KEEP_RULES) {
    const ofRule = planned.flatMap(({ decision }) =>
      decision.why === 'rule' && decision.rule === rule ? decision : [],
    );
    expect(ofRule.length, word).toBeLessThanOrEqual(keep[rule] ?? 0);
    expect(
      ofRule.map(({ index }) => index),
      word,
    ).toEqual(ofRule.map((_, i) => ofRule.length - i));
    expect(new Set(ofRule.map(({ period }) => period)).size, word).toBe(ofRule.length);
  }
}

describe('planPrune, as Proxmox documents it', () => {
  it('keeps the last N', () => {
    process.env.TZ = 'UTC';
    const times = ['2026-11-01T02:00Z', '2026-11-02T02:00Z', '2026-11-03T02:00Z'];
    expect(kept(times, { last: 2 })).toEqual(['2026-11-02T02:00', '2026-11-03T02:00']);
  });

  it('keeps only the latest of each period', () => {
    process.env.TZ = 'UTC';
    const times = ['2026-11-02T02:00Z', '2026-11-02T14:00Z', '2026-11-02T14:50Z', '2026-11-03T02:00Z'];
    expect(kept(times, { hourly: 9 })).toEqual(['2026-11-02T02:00', '2026-11-02T14:50', '2026-11-03T02:00']);
    expect(kept(times, { daily: 9 })).toEqual(['2026-11-02T14:50', '2026-11-03T02:00']);
    expect(kept(times, { weekly: 9 })).toEqual(['2026-11-03T02:00']);
  });

  it('does not count periods without backups', () => {
    process.env.TZ = 'UTC';
    const times = ['2020-01-01T02:00Z', '2026-03-01T02:00Z', '2026-11-03T02:00Z'];
    for (const rule of ['hourly', 'daily', 'weekly', 'monthly'] as const) {
      expect(kept(times, { [rule]: 3 })).toHaveLength(3);
    }
    expect(kept(times, { yearly: 3 })).toEqual(['2020-01-01T02:00', '2026-11-03T02:00']);
  });

  it('passes over periods that an earlier rule covers, and looks at older ones', () => {
    process.env.TZ = 'UTC';
    const times = ['2026-11-01T02:00Z', '2026-11-02T02:00Z', '2026-11-03T02:00Z', '2026-11-03T12:00Z'];
    expect(kept(times, { last: 1, daily: 2 })).toEqual(['2026-11-01T02:00', '2026-11-02T02:00', '2026-11-03T12:00']);
  });

  it('takes weeks from Monday to Sunday, by ISO 8601 at the end of a year too', () => {
    process.env.TZ = 'UTC';
    // 2021-01-03 was a Sunday, of week 53 of 2020.
    const times = ['2020-12-27T02:00Z', '2020-12-28T02:00Z', '2020-12-31T02:00Z', '2021-01-03T02:00Z'];
    expect(kept(times, { weekly: 2 })).toEqual(['2020-12-27T02:00', '2021-01-03T02:00']);
    expect(localPeriodOf('weekly', at('2021-01-03T02:00Z'))).toBe('2020-W53');
    expect(localPeriodOf('weekly', at('2024-12-30T02:00Z'))).toBe('2025-W01');
    expect(localPeriodOf('weekly', at('2026-11-21T02:00Z'))).toBe('2026-W47');
  });

  it('holds what the example of the administration guide promises of daily backups', () => {
    process.env.TZ = 'UTC';
    const end = at('2026-11-21T02:00Z');
    const nights = Array.from({ length: 12 * 366 }, (_, i) => sound(end - i * DAY));
    const keep = { last: 3, daily: 13, weekly: 8, monthly: 11, yearly: 9 };
    const stays = keptTimes(plan(nights, keep));
    expect(stays).toHaveLength(3 + 13 + 8 + 11 + 9);
    const age = stays.map((time) => (end - time) / DAY).reverse();
    expect(age.slice(0, 16), 'two weeks of days').toEqual(Array.from({ length: 16 }, (_, i) => i));
    expect(age[23], 'two months of weeks').toBeGreaterThan(61);
    expect(age[34], 'a year of months').toBeGreaterThan(365);
    expect(age[43], 'ten years').toBeGreaterThan(9 * 365);
    expect(stays.slice(0, 9).map((time) => new Date(time * 1000).toISOString().slice(0, 10))).toEqual(
      Array.from({ length: 9 }, (_, i) => `${2016 + i}-12-31`),
    );
  });

  it('neither removes nor counts protected backups', () => {
    process.env.TZ = 'UTC';
    const days = Array.from({ length: 5 }, (_, i) => sound(at('2026-11-01T02:00Z') + i * DAY));
    const planned = plan([...days.slice(0, 4), { ...days[4]!, state: 'protected' }], { last: 1, daily: 1 });
    expect(planned.map(({ decision }) => decision.why)).toEqual(['no-rule', 'no-rule', 'rule', 'rule', 'protected']);
  });
});

describe('planPrune', () => {
  it('gives a reason for each', () => {
    process.env.TZ = 'UTC';
    const times = [
      '2026-11-09T02:00Z',
      '2026-11-16T02:00Z',
      '2026-11-20T02:00Z',
      '2026-11-20T14:00Z',
      '2026-11-21T02:00Z',
    ];
    const candidates: PruneCandidate[] = times.map((time) => sound(at(time)));
    candidates.push({ ref: backup(at('2026-11-10T02:00Z')), state: 'damaged' });
    expect(plan(candidates, { last: 1, daily: 1, weekly: 1 }).map(({ decision }) => decision)).toEqual([
      { keep: true, why: 'rule', rule: 'weekly', period: '2026-W46', index: 1, of: 1 },
      { keep: true, why: 'damaged' },
      { keep: false, why: 'no-rule' },
      { keep: false, why: 'not-newest', rule: 'daily', period: '2026-11-20' },
      { keep: true, why: 'rule', rule: 'daily', period: '2026-11-20', index: 1, of: 1 },
      { keep: true, why: 'rule', rule: 'last', period: String(at('2026-11-21T02:00Z')), index: 1, of: 1 },
    ]);
  });

  it("counts the hour that is twice as one, and days by the host's time zone", () => {
    process.env.TZ = 'Europe/Berlin';
    const twice = ['2024-10-27T00:30Z', '2024-10-27T01:30Z'];
    expect(kept(twice, { hourly: 2 })).toEqual(['2024-10-27T01:30']);
    const midnight = ['2024-07-01T21:30Z', '2024-07-01T22:30Z'];
    expect(kept(midnight, { daily: 2 })).toHaveLength(2);
    process.env.TZ = 'UTC';
    expect(kept(midnight, { daily: 2 })).toHaveLength(1);
  });

  it('keeps everything with all', () => {
    const planned = plan([sound(5), { ref: backup(6), state: 'protected' }], 'all');
    expect(planned.map(({ decision }) => decision.why)).toEqual(['all', 'protected']);
  });

  it('keeps the newest of the past, whatever a clock that was ahead has left', () => {
    process.env.TZ = 'UTC';
    const now = at('2026-11-21T02:00:10Z');
    const nights = [3, 2, 1, 0].map((days) => sound(now - 10 - days * DAY));
    const future = [1, 2].map((days) => sound(now + 1000 * DAY + days * DAY));
    const planned = plan([...nights, ...future], { last: 2 }, now);
    expect(planned.map(({ decision }) => decision.why)).toEqual([
      'no-rule',
      'no-rule',
      'no-rule',
      'newest-past',
      'rule',
      'rule',
    ]);
    expect(plan([...nights, ...future], { last: 3 }, now).filter(({ decision }) => decision.keep)).toHaveLength(3);
    // Where the clock is behind, all are of the future: the rules alone decide.
    expect(keptTimes(plan(nights, { last: 1 }, 5))).toEqual([now - 10]);
  });

  it('decides about ten thousand backups', () => {
    const many = Array.from({ length: 10_000 }, (_, i) => sound(i * 1800));
    expect(keptTimes(plan(many, { last: 10, hourly: 24, daily: 30, weekly: 8 }))).toHaveLength(72);
  });
});
