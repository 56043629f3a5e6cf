// SPDX-License-Identifier: MIT
// The calendar of nights: which day a backup and a report belong to, and what a day amounts to. Times are local, whatever
// the time zone of the host.

import { describe, expect, it } from 'vitest';
import { type CalendarFacts, makeCalendar } from '#vmar/src/nightly/calendar.js';
import type { JobGuest, JobReport } from '#vmar/src/nightly/history.js';
import { parseSchedule } from '#vmar/src/nightly/schedule.js';
import { formatBackupId } from '#vmar/src/store/backup-id.js';
import { backup, guest } from '../store/samples.js';

/** Of March 2024, which has no change of the clocks before its tenth. */
const at = (day: number, hour: number, minute = 0): number => new Date(2024, 2, day, hour, minute).getTime();
const ref = (day: number, hour: number, minute = 0) => backup(at(day, hour, minute) / 1000);

function report(startedMillis: number, outcome: JobGuest['outcome'], error = ''): JobReport {
  const counts = { sizeBytes: 0, readBytes: 0, zeroBytes: 0, unchangedBytes: 0, newBytes: 0, storedBytes: 0 };
  const ended = { outcome, error, errorCode: '', startedMillis, finishedMillis: startedMillis };
  const own = { job: 'nightly', kind: 'backup', host: 'h', writer: 'test', steps: [], warnings: [] };
  return { ...own, ...ended, guests: [{ ...ended, ...counts, guest: '100', backup: '', attempts: 1 }] };
}

/** The states of five days up to the eighth of March, noon. */
function states(facts: Partial<CalendarFacts> & { schedule?: string; backups?: ReturnType<typeof ref>[] }): string[] {
  const { schedule, backups = [], ...others } = facts;
  const { days, guests } = makeCalendar({
    guests: [{ guest: guest(), backups, schedules: schedule === undefined ? [] : [parseSchedule(schedule)] }],
    ...{ reports: [], damaged: new Set(), nowMillis: at(8, 12), graceMillis: 6 * 3_600_000, days: 5 },
    ...others,
  });
  expect(days).toEqual(['2024-03-04', '2024-03-05', '2024-03-06', '2024-03-07', '2024-03-08']);
  return guests[0]!.nights.map(({ state }) => state);
}

describe('a calendar', () => {
  it('shows what is there, and what reports tell', () => {
    expect(states({ backups: [ref(4, 2), ref(5, 2), ref(5, 14), ref(8, 2)] })).toEqual([
      'ok',
      'ok',
      'none',
      'none',
      'ok',
    ]);
    expect(
      states({
        backups: [ref(7, 2), ref(8, 2)],
        damaged: new Set([formatBackupId(ref(7, 2))]),
        reports: [
          ...[
            report(at(8, 2), 'ok'),
            report(at(6, 2), 'failed', 'no'),
            report(at(5, 2), 'ok'),
            report(at(4, 2), 'skipped'),
          ],
        ],
      }),
    ).toEqual(['none', 'gone', 'failed', 'damaged', 'ok']);
    // A try that failed is forgiven by one that did not.
    expect(states({ backups: [ref(6, 3)], reports: [report(at(6, 2), 'failed', 'no')] })[2]).toBe('ok');
  });

  it('misses what the schedule names, from the first backup on, and not before its time is over', () => {
    expect(states({ schedule: '02:00', backups: [ref(5, 2)] })).toEqual(['none', 'ok', 'missed', 'missed', 'missed']);
    expect(states({ schedule: '09:00', backups: [ref(6, 9)] })).toEqual(['none', 'none', 'ok', 'missed', 'none']);
    expect(states({ schedule: '02:00' })).toEqual(['none', 'none', 'none', 'none', 'none']);
    expect(states({ schedule: 'Mon,Thu 02:00', backups: [ref(4, 2)] })).toEqual([
      'ok',
      'none',
      'none',
      'missed',
      'none',
    ]);
  });

  it('counts a night that goes on after midnight as the one that it began in', () => {
    const backups = [ref(4, 0, 20), ref(5, 0, 40), ref(6, 23, 50), ref(8, 1)];
    expect(states({ schedule: '23:30', backups })).toEqual(['ok', 'missed', 'ok', 'ok', 'none']);
    expect(states({ backups })).toEqual(['ok', 'ok', 'ok', 'none', 'ok']);
  });
});
