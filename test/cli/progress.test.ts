// SPDX-License-Identifier: MIT

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Output } from '#vmar/src/cli/output.js';
import { Progress } from '#vmar/src/cli/progress.js';
import { RateMeter } from '#vmar/src/cli/rate-meter.js';

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

describe('the rate', () => {
  it('is that of the last ten seconds', () => {
    const meter = new RateMeter(0);
    for (let second = 1; second <= 60; second++) meter.note(second * 1000, Math.min(second, 30) * 1000);
    expect(meter.rate(60_000, 30_000)).toBe(0);
    expect(new RateMeter(0).rate(2000, 1000)).toBe(500);
    expect(new RateMeter(0).rate(0, 0)).toBe(0);
  });
});
