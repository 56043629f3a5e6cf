// SPDX-License-Identifier: MIT

import { type ChildProcess, execFileSync } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { closeSync, constants, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Interrupts } from '#vmar/src/cli/interrupts.js';
import type { Output } from '#vmar/src/cli/output.js';
import { Bench } from './bench.js';

class Ended extends Error {}

function fake() {
  const statuses: number[] = [];
  const process = new EventEmitter();
  const end = (): never => {
    statuses.push(130);
    throw new Ended();
  };
  const output = { live: undefined, error() {}, notice() {} } as unknown as Output;
  const interrupts = new Interrupts(process as unknown as NodeJS.Process, output, 'vmar', end);
  interrupts.listen();
  return { process, interrupts, statuses };
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s', (signal) => {
  it('ends the program where nothing needs cancelling', async () => {
    const { process, interrupts, statuses } = fake();
    expect(() => process.emit(signal)).toThrow(Ended);
    await interrupts.during(
      () => {},
      async () => {},
    );
    expect(() => process.emit(signal)).toThrow(Ended);
    expect(statuses).toEqual([130, 130]);
  });

  it('cancels at first, and ends the program the second time', async () => {
    const { process, interrupts, statuses } = fake();
    const clock = vi.spyOn(performance, 'now').mockReturnValue(1000);
    let cancelled = 0;
    await interrupts.during(
      () => {
        cancelled++;
      },
      async () => {
        process.emit(signal);
        expect(cancelled).toBe(1);
        // As timeout(1) does it.
        process.emit(signal);
        expect(statuses).toEqual([]);
        clock.mockReturnValue(1250);
        expect(() => process.emit(signal)).toThrow(Ended);
      },
    );
    expect(cancelled).toBe(1);
    expect(statuses).toEqual([130]);
  });
});

describe('a program of which a thread hangs in the kernel', () => {
  it('ends all the same, with one document', async () => {
    const bench = new Bench();
    const pipe = bench.path('pipe.vma');
    execFileSync('mkfifo', [pipe]);
    const { child, finished } = bench.start(['--json', 'show', pipe]);
    const writer = await openForReader(pipe, child);
    // It waits for a byte now, which never comes.
    child.kill('SIGINT');
    const { status, json } = await finished;
    closeSync(writer);
    expect(status).toBe(130);
    expect(json().error).toMatchObject({ code: 'interrupted', exit: 130 });
  });
});

/** Once somebody reads the pipe. */
async function openForReader(pipe: string, reader: ChildProcess): Promise<number> {
  while (reader.exitCode === null) {
    try {
      return openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch {
      await sleep(20);
    }
  }
  throw new Error('nobody read the pipe');
}
