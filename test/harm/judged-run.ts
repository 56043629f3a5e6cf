// SPDX-License-Identifier: MIT
// Runs the built programs and judges how they ended, whatever was done to their files: no hang, no crash, no stack trace,
// no memory without bounds, and a word to every failure.

import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Bench, Finished, Running, RunOptions } from '../cli/bench.js';

/** Far more than anything takes here on a busy machine. */
const LONGEST_MILLIS = 90_000;
const MOST_RESIDENT_KIB = 600 << 10;
const POLL_MILLIS = 40;

/** What a stranger must never see. */
const CRASH = /^ {4}at .+:\d+:\d+\)?$|node:internal|Uncaught|Unhandled|report (?:this|it) with the output/m;

export interface Judged extends Finished {
  /** What is wrong with how it ended, whatever it was to do. */
  readonly faults: readonly string[];
}

/** Waits for a program that was started, and judges it. */
export async function judge(running: Running, longestMillis = LONGEST_MILLIS): Promise<Judged> {
  const faults: string[] = [];
  const { child, finished } = running;
  let peakKib = 0;
  let hasEnded = false;
  const watching = (async () => {
    const end = performance.now() + longestMillis;
    while (!hasEnded) {
      peakKib = Math.max(peakKib, residentKib(child.pid));
      if (performance.now() > end || peakKib > 2 * MOST_RESIDENT_KIB) {
        faults.push(performance.now() > end ? 'hangs' : `takes ${peakKib >> 10} MiB and more`);
        child.kill('SIGKILL');
        return;
      }
      await delay(POLL_MILLIS);
    }
  })();
  const result = await finished;
  hasEnded = true;
  await watching;
  if (faults.length > 0) return { ...result, faults };
  if (peakKib > MOST_RESIDENT_KIB) faults.push(`takes ${peakKib >> 10} MiB`);
  if (result.status === null) faults.push('was ended by a signal');
  const said = `${result.stderr}\n${result.stdout.subarray(0, 1 << 20).toString()}`;
  if (CRASH.test(said) || said.includes('"code":"bug"')) faults.push('crashes');
  if (result.status !== 0 && said.trim() === '') faults.push('says nothing');
  return { ...result, faults };
}

/** The most that the process ever had in memory. */
function residentKib(pid: number | undefined): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

export async function runJudged(bench: Bench, words: readonly string[], options: RunOptions = {}): Promise<Judged> {
  return await judge(bench.start(words, options));
}
