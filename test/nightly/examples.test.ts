// SPDX-License-Identifier: MIT
// The examples in docs/JOBS.md are configurations, and its tables name every key that there is.

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '#vmar/src/nightly/config-file.js';
import { nextRun, parseSchedule } from '#vmar/src/nightly/schedule.js';

const page = readFileSync('docs/JOBS.md', 'utf8');
const examples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text]) => text ?? '');

describe('docs/JOBS.md', () => {
  it('has examples of every kind of job', () => {
    expect(examples.length).toBeGreaterThanOrEqual(3);
    const kinds = examples.flatMap((text) => [...parseConfig(text, 'x').jobs.values()].map(({ kind }) => kind));
    expect([...new Set(kinds)].sort()).toEqual(['backup', 'copy', 'drill', 'gc', 'prune', 'verify']);
  });

  it.each(examples)('example %# is right, and its jobs run some time', (text) => {
    for (const { schedule } of parseConfig(text, 'docs/JOBS.md').jobs.values()) {
      if (schedule !== undefined) expect(nextRun(schedule, Date.now())).toBeLessThan(Date.now() + 32 * 86_400_000);
    }
  });

  it('names schedules that are taken', () => {
    const section = /## Schedules\n([\s\S]*?)\n## /.exec(page)?.[1] ?? '';
    const events = [...section.matchAll(/`([^`]+)`/g)].flatMap(([, text = '']) => (/[:y]/.test(text) ? [text] : []));
    expect(events.length).toBeGreaterThanOrEqual(5);
    for (const text of events) expect(parseSchedule(text).text).not.toBe('');
  });

  it('names every key', () => {
    for (const key of [
      'min-free',
      'force-share',
      'paranoid',
      'bandwidth',
      'blobs',
      'max-age',
      'older-than',
      'max-unused',
    ]) {
      expect(page).toContain(key);
    }
  });
});
