// SPDX-License-Identifier: MIT
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { InterruptedError } from '#vmar/src/base/errors.js';
import { JobTransaction, type TransactionOptions } from '#vmar/src/jobs/transaction.js';
import { seededRandom } from '../base/random.js';
import { ScriptedJob } from './scripted-job.js';

const settle = async () => {
  for (let turns = 0; turns < 10; turns++) await turn();
};

function latch() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}

function together(jobs: readonly ScriptedJob[], options?: TransactionOptions): JobTransaction {
  const transaction = new JobTransaction(options);
  for (const job of jobs) transaction.add(job);
  return transaction;
}

describe('JobTransaction', () => {
  it('starts all together, and lets all conclude together', async () => {
    const calls: string[] = [];
    const slow = latch();
    const jobs = [new ScriptedJob(), new ScriptedJob(({ waitFor }) => waitFor(slow.opened)), new ScriptedJob()];
    const statuses = () => jobs.map((job) => job.status);
    const transaction = together(jobs, {
      begin: async () => void calls.push(`begin ${statuses()}`),
      finish: async () => void calls.push(`finish ${statuses()}`),
      abort: async () => void calls.push('abort'),
    });
    transaction.start();
    await settle();
    expect(statuses()).toEqual(['waiting', 'running', 'waiting']);
    slow.open();
    await transaction.finished;
    expect(statuses()).toEqual(['concluded', 'concluded', 'concluded']);
    expect(calls).toEqual(['begin created,created,created', 'finish pending,pending,pending']);
    for (const job of jobs) expect(job.hooks).toEqual(['prepare', 'commit', 'clean']);
  });

  it('one that fails cancels all others, wherever they are', async () => {
    const slow = latch();
    const failing = new ScriptedJob(async ({ waitFor }) => {
      await waitFor(slow.opened);
      throw new Error('disk 1');
    });
    const others = [
      new ScriptedJob(),
      new ScriptedJob(({ waitFor }) => waitFor(new Promise<void>(() => {}))),
      new ScriptedJob(async ({ becomeReady, waitFor, completed }) => {
        await becomeReady();
        await waitFor(completed);
      }),
    ];
    for (const job of others) job.isGentle = true;
    const told: unknown[] = [];
    const transaction = together([...others, failing], {
      finish: async () => void told.push('finish'),
      abort: async (error) => void told.push(error, ...others.map((job) => job.status)),
    });
    transaction.start();
    await settle();
    slow.open();
    await expect(transaction.finished).rejects.toThrow('disk 1');
    expect(told).toEqual([failing.error, 'concluded', 'concluded', 'concluded']);
    for (const job of others) {
      expect(job.error).toBeInstanceOf(InterruptedError);
      expect(job.hooks).toEqual(['abort', 'clean']);
    }
  });

  it.each(['begin', 'prepare', 'finish', 'abort after finish'])('a failure of %s aborts all', async (what) => {
    const jobs = [new ScriptedJob(), new ScriptedJob()];
    if (what === 'prepare') jobs[1]!.failing.add('prepare');
    let aborted = 0;
    const fail = (name: string) => async () => {
      if (what.endsWith(name)) throw new Error(`${name} failed`);
    };
    const transaction = together(jobs, {
      begin: fail('begin'),
      finish: fail('finish'),
      abort: async () => {
        aborted++;
        if (what.startsWith('abort')) throw new Error('abort failed');
      },
    });
    transaction.start();
    await expect(transaction.finished).rejects.toThrow(/(begin|prepare|finish) failed/);
    expect(aborted).toBe(1);
    for (const job of jobs) {
      expect(job.status).toBe('concluded');
      expect(job.hooks).not.toContain('commit');
      expect(job.hooks.slice(-2)).toEqual(['abort', 'clean']);
    }
  });

  it('cancelled before its start, runs nothing', async () => {
    const job = new ScriptedJob();
    const calls: string[] = [];
    const transaction = together([job], {
      begin: async () => void calls.push('begin'),
      abort: async () => void calls.push('abort'),
    });
    transaction.cancel();
    transaction.start();
    await expect(transaction.finished).rejects.toBeInstanceOf(InterruptedError);
    expect(calls).toEqual(['abort']);
    expect(job.statuses).toEqual(['aborting', 'concluded']);
  });

  it('cannot be cancelled once its end has begun', async () => {
    const gate = latch();
    const job = new ScriptedJob();
    const transaction = together([job], { finish: () => gate.opened });
    transaction.start();
    await settle();
    expect(job.status).toBe('pending');
    transaction.cancel();
    gate.open();
    await transaction.finished;
    expect(job.hooks).toEqual(['prepare', 'commit', 'clean']);
  });

  it('refuses a job of another one, a late one, and a second start', async () => {
    const transaction = together([]);
    const job = new ScriptedJob();
    transaction.add(job);
    expect(() => new JobTransaction().add(job)).toThrow(expect.objectContaining({ code: 'job-in-transaction' }));
    transaction.start();
    expect(() => transaction.add(new ScriptedJob())).toThrow(expect.objectContaining({ code: 'transaction-started' }));
    expect(() => transaction.start()).toThrow(expect.objectContaining({ code: 'transaction-started' }));
    await transaction.finished;
  });

  it('of no jobs is finished at once', async () => {
    let finished = 0;
    const transaction = together([], { finish: async () => void finished++ });
    transaction.start();
    await transaction.finished;
    expect(finished).toBe(1);
  });

  it.each(Array.from({ length: 60 }, (_, seed) => seed))('is all or nothing, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const jobs = Array.from({ length: random.integer(1, 4) }, () => {
      const fails = random.oneIn(6);
      const turns = random.integer(0, 10);
      const job = new ScriptedJob(async ({ pausePoint }) => {
        for (let left = turns; left > 0; left--) {
          await turn();
          await pausePoint();
        }
        if (fails) throw new Error('work');
      });
      if (random.oneIn(12)) job.failing.add('prepare');
      return job;
    });
    const transaction = together(jobs, {
      finish: () => (random.oneIn(8) ? Promise.reject(new Error('finish')) : turn()),
    });
    let ended = false;
    const outcome = transaction.finished.then(
      () => 'done',
      (error: unknown) => error,
    );
    outcome.finally(() => {
      ended = true;
    });
    transaction.start();
    while (!ended) {
      const job = jobs[random.integer(0, jobs.length - 1)]!;
      if (random.oneIn(3)) job.pause();
      else job.resume();
      if (random.oneIn(30)) job.cancel();
      await turn();
    }
    const isDone = (await outcome) === 'done';
    for (const job of jobs) {
      expect(job.status).toBe('concluded');
      expect(job.hooks.includes('commit')).toBe(isDone);
      expect(job.hooks.includes('abort')).toBe(!isDone);
    }
  });
});
