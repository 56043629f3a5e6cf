// SPDX-License-Identifier: MIT

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { barText } from '#vmar/src/cli/bar-text.js';
import { Output } from '#vmar/src/cli/output.js';
import { Progress } from '#vmar/src/cli/progress.js';
import { RateMeter } from '#vmar/src/cli/rate-meter.js';
import { Waiting } from '#vmar/src/cli/waiting.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

function fakeOutput(quiet: boolean): { output: Output; lines: string[] } {
  const lines: string[] = [];
  const output = { quiet, progressTerminal: undefined, notice: (line: string) => lines.push(line) };
  return { output: output as unknown as Output, lines };
}

describe('progress away from a terminal', () => {
  it('is a line every ten seconds, and none for what is quick', () => {
    const { output, lines } = fakeOutput(false);
    const progress = new Progress(output, 'backing up');
    progress.addTotal(100 << 20);
    progress.add(10 << 20);
    vi.advanceTimersByTime(9000);
    expect(lines).toEqual([]);
    progress.add(10 << 20);
    vi.advanceTimersByTime(1000);
    expect(lines).toEqual(['backing up: 20 %, 20 MiB of 100 MiB, 2 MiB/s, 40 s left']);
    progress.end();
    vi.advanceTimersByTime(60_000);
    expect(lines).toHaveLength(1);
  });

  it('is nothing with --quiet', () => {
    const { output, lines } = fakeOutput(true);
    const progress = new Progress(output, 'backing up');
    vi.advanceTimersByTime(60_000);
    progress.end();
    expect(lines).toEqual([]);
  });
});

describe('a wait', () => {
  it('is told on a terminal once it lasts, and goes away', () => {
    let shown = '';
    const terminal = { columns: 30, write: (text: string) => (shown += text) };
    const output = { quiet: false, progressTerminal: terminal, live: undefined } as unknown as Output;
    const waiting = new Waiting(output, (passed) => `booting: ${passed} of at most 10 min 0 s`);
    vi.advanceTimersByTime(1900);
    expect(shown).toBe('');
    vi.advanceTimersByTime(10_100);
    expect(shown.split('\u001b[K').at(-1)).toBe('booting: 12 s of at most 10 m');
    waiting.end();
    expect(shown.endsWith('\u001b[K')).toBe(true);
    const before = shown;
    vi.advanceTimersByTime(60_000);
    expect(shown).toBe(before);
  });

  it('is nothing elsewhere', () => {
    const { output, lines } = fakeOutput(false);
    const waiting = new Waiting(output, () => 'booting');
    vi.advanceTimersByTime(60_000);
    waiting.end();
    expect(lines).toEqual([]);
  });
});

describe('the rate', () => {
  it('is that of the last ten seconds', () => {
    const meter = new RateMeter(0);
    for (let second = 1; second <= 60; second++) meter.note(second * 1000, Math.min(second, 30) * 1000);
    expect(meter.rate(60_000, 30_000)).toBe(0);
    expect(new RateMeter(0).rate(2000, 1000)).toBe(500);
    expect(new RateMeter(0).rate(0, 0)).toBe(0);
  });
});

describe('the line of a bar', () => {
  const facts = { label: 'verifying', share: 0.5, amount: '350 MiB of 700 MiB', rate: '50 MiB/s', left: '7.0 s left' };

  it('gives up what matters least where the terminal is narrow', () => {
    expect(barText(facts, 100)).toBe(
      `verifying [${'#'.repeat(12)}${'-'.repeat(12)}] 50 %  350 MiB of 700 MiB, 50 MiB/s, 7.0 s left`,
    );
    expect(barText(facts, 70)).toBe('verifying [####----] 50 %  350 MiB of 700 MiB, 50 MiB/s, 7.0 s left');
    expect(barText(facts, 60)).toBe('verifying 50 %, 350 MiB of 700 MiB, 50 MiB/s, 7.0 s left');
    expect(barText(facts, 40)).toBe('verifying 50 %, 50 MiB/s, 7.0 s left');
    expect(barText(facts, 30)).toBe('verifying 50 %, 7.0 s left');
    expect(barText(facts, 20)).toBe('verifying 50 %');
  });

  it('is never wider than the terminal', () => {
    for (let columns = 0; columns < 120; columns++) {
      expect(barText(facts, columns).length).toBeLessThanOrEqual(columns);
    }
  });
});

describe('a bar and results on one terminal', () => {
  function fakeTerminal(TERM: string) {
    let shown = '';
    const stream = {
      isTTY: true,
      on: () => {},
      write: (text: string) => {
        shown += text;
      },
    };
    const output = new Output({ stdout: stream, stderr: stream, env: { TERM } } as unknown as NodeJS.Process);
    return { output, shown: () => shown };
  }

  it('a result stands on a line of its own, and the bar does not come back over it', () => {
    const { output, shown } = fakeTerminal('xterm');
    output.live = {
      before: () => output.progressTerminal?.write('<clear>'),
      after: () => output.progressTerminal?.write('<save>'),
      end: () => {},
    };
    output.summary(
      () => ({}),
      () => 'no damage',
    );
    expect(shown()).toBe('<clear>no damage\n<save>');
  });

  it('a terminal that moves no cursor has no bar', () => {
    expect(fakeTerminal('dumb').output.progressTerminal).toBeUndefined();
    expect(fakeTerminal('xterm').output.progressTerminal).toBeDefined();
  });
});
