// SPDX-License-Identifier: MIT
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ManualClock } from '#vmar/src/base/clock.js';
import { FailedError, InterruptedError } from '#vmar/src/base/errors.js';
import { checkTransition, type JobStatus, TRANSITIONS } from '#vmar/src/jobs/job-status.js';
import { seededRandom } from '../base/random.js';
import { ScriptedJob } from './scripted-job.js';

const never = new Promise<void>(() => {});
const settle = async () => {
  for (let turns = 0; turns < 10; turns++) await turn();
};

describe('the table of states', () => {
  it('is the one of QEMU', () => {
    const letters: Record<JobStatus, string> = {
      ...{ created: 'C', running: 'R', paused: 'P', ready: 'Y', standby: 'S' },
      ...{ waiting: 'W', pending: 'D', aborting: 'X', concluded: 'E' },
    };
    const rows = Object.entries(TRANSITIONS).map(
      ([from, to]) => `${letters[from as JobStatus]}→${to.map((status) => letters[status]).join('')}`,
    );
    expect(rows.join(' ')).toBe('C→RX R→PYWX P→R Y→SWX S→Y W→DX D→EX X→E E→');
  });

  it('is enforced, each way of it', () => {
    const all = Object.keys(TRANSITIONS) as JobStatus[];
    for (const from of all) {
      for (const to of all) {
        const go = () => checkTransition('job', from, to);
        if (TRANSITIONS[from].includes(to)) expect(go).not.toThrow();
        else expect(go).toThrow(expect.objectContaining({ code: 'bug' }));
      }
    }
  });
});

describe('Job', () => {
  it('runs to its end', async () => {
    const job = new ScriptedJob();
    expect(job.status).toBe('created');
    job.start();
    await job.finished;
    expect(job.statuses).toEqual(['running', 'waiting', 'pending', 'concluded']);
    expect(job.hooks).toEqual(['prepare', 'commit', 'clean']);
    expect(job.error).toBeUndefined();
    expect(() => job.start()).toThrow(expect.objectContaining({ code: 'job-started' }));
  });

  it('fails with the error of its work', async () => {
    const job = new ScriptedJob(() => Promise.reject(new Error('no')));
    job.start();
    await expect(job.finished).rejects.toThrow('no');
    expect(job.statuses).toEqual(['running', 'aborting', 'concluded']);
    expect(job.hooks).toEqual(['abort', 'clean']);
  });

  it('fails with the error of its last step, and tells it also when clearing up fails', async () => {
    const job = new ScriptedJob();
    for (const hook of ['prepare', 'abort', 'clean']) job.failing.add(hook);
    job.start();
    await expect(job.finished).rejects.toThrow('prepare failed');
    expect(job.statuses).toEqual(['running', 'waiting', 'pending', 'aborting', 'concluded']);
  });

  it('is cancelled before it starts, and never runs', async () => {
    const job = new ScriptedJob(() => Promise.reject(new Error('ran')));
    job.cancel();
    await expect(job.finished).rejects.toBeInstanceOf(InterruptedError);
    expect(job.statuses).toEqual(['aborting', 'concluded']);
    expect(() => job.start()).toThrow();
  });

  it('is cancelled while it waits, paused or not', async () => {
    for (const paused of [false, true]) {
      const job = new ScriptedJob(({ waitFor, pausePoint }) => (paused ? pausePoint() : waitFor(never)));
      if (paused) job.pause();
      job.start();
      await settle();
      expect(job.status).toBe(paused ? 'paused' : 'running');
      job.cancel();
      await expect(job.finished).rejects.toBeInstanceOf(InterruptedError);
      expect(job.status).toBe('concluded');
    }
  });

  it('is paused before its start, while it runs, and at its end', async () => {
    let passed = 0;
    const job = new ScriptedJob(async ({ pausePoint }) => {
      for (; passed < 3; passed++) await pausePoint();
    });
    job.pause();
    job.pause();
    job.start();
    await settle();
    expect([job.status, passed]).toEqual(['paused', 0]);
    job.resume();
    job.pause();
    await settle();
    expect([job.status, passed]).toEqual(['paused', 0]);
    job.resume();
    await job.finished;
    expect(job.statuses).toEqual([
      'running',
      'paused',
      'running',
      'paused',
      'running',
      'waiting',
      'pending',
      'concluded',
    ]);
  });

  it('ready, it is standby while it is paused, and is completed', async () => {
    const job = new ScriptedJob(async ({ becomeReady, waitFor, completed }) => {
      await becomeReady();
      await waitFor(completed);
    });
    await expect(job.complete()).rejects.toMatchObject({ code: 'job-not-ready' });
    job.start();
    await settle();
    expect(job.status).toBe('ready');
    job.pause();
    expect(job.status).toBe('standby');
    await expect(job.complete()).rejects.toMatchObject({ code: 'job-not-ready' });
    job.resume();
    await job.complete();
    await job.finished;
    await expect(job.complete()).rejects.toMatchObject({ code: 'job-not-ready' });
    const expected = ['running', 'ready', 'standby', 'ready', 'waiting', 'pending', 'concluded'];
    expect(job.statuses).toEqual(expected);
  });

  it('that ends by itself cannot be completed', async () => {
    const job = new ScriptedJob(({ waitFor }) => waitFor(never));
    job.start();
    await expect(job.complete()).rejects.toMatchObject({ code: 'job-not-ready', exitStatus: 2 });
    job.cancel();
  });

  it.each([
    [true, false, 'done'],
    [true, true, 'cancelled'],
    [false, false, 'cancelled'],
  ])('gentle %s, cancelled with force %s when it is ready: %s', async (gentle, force, outcome) => {
    for (const standby of [false, true]) {
      const job = new ScriptedJob(async ({ becomeReady, waitFor, completed }) => {
        await becomeReady();
        await waitFor(completed);
      });
      job.isGentle = gentle;
      job.start();
      await settle();
      if (standby) job.pause();
      job.cancel({ force });
      expect(
        await job.finished.then(
          () => 'done',
          () => 'cancelled',
        ),
      ).toBe(outcome);
    }
  });

  it('keeps to its speed, one piece after another, and takes a new one while it waits', async () => {
    const clock = new ManualClock();
    const admitted: number[] = [];
    const job = new ScriptedJob(
      async ({ admit }) => {
        await Promise.all(
          [1, 2, 3, 4].map(async (n) => {
            await admit(1000);
            admitted.push(n);
          }),
        );
      },
      { clock, speedBytesPerSecond: 1000 },
    );
    job.start();
    await settle();
    expect(admitted).toEqual([1]);
    clock.advance(1000);
    await settle();
    expect(admitted).toEqual([1, 2]);
    job.pause();
    clock.advance(1000);
    await settle();
    expect(admitted).toEqual([1, 2]);
    job.resume();
    await settle();
    expect(admitted).toEqual([1, 2, 3]);
    job.setSpeed(0);
    await job.finished;
    expect(admitted).toEqual([1, 2, 3, 4]);
  });

  it('is cancelled while it waits for the speed limit', async () => {
    const clock = new ManualClock();
    const job = new ScriptedJob(
      async ({ admit }) => {
        await Promise.all([1, 2, 3].map(() => admit(1000)));
      },
      { clock, speedBytesPerSecond: 1000 },
    );
    job.start();
    await settle();
    job.cancel();
    await expect(job.finished).rejects.toBeInstanceOf(InterruptedError);
    await settle();
    expect(clock.sleeping).toBe(0);
  });
});

describe('Job on an error of a device', () => {
  const noSpace = new FailedError('no-space', 'full');
  const broken = new FailedError('write-failed', 'EIO', { cause: Object.assign(new Error(), { code: 'EIO' }) });
  const wrapped = new FailedError('write-failed', 'x', { cause: Object.assign(new Error(), { code: 'ENOSPC' }) });

  it.each([
    ['report', broken, 'report', 'ok'],
    ['report', noSpace, 'report', 'ok'],
    ['ignore', broken, 'ignore', 'ok'],
    ['stop', broken, 'stop', 'failed'],
    ['stop', noSpace, 'stop', 'nospace'],
    ['enospc', noSpace, 'stop', 'nospace'],
    ['enospc', wrapped, 'stop', 'nospace'],
    ['enospc', broken, 'report', 'ok'],
  ] as const)('with policy %s and %s: %s', async (policy, error, action, ioStatus) => {
    for (const where of ['source', 'target'] as const) {
      const events: unknown[] = [];
      const answers: string[] = [];
      const job = new ScriptedJob(
        async ({ onError }) => {
          answers.push(await onError(where, error));
        },
        { [where === 'source' ? 'onSourceError' : 'onTargetError']: policy, onIoError: (event) => events.push(event) },
      );
      job.start();
      await settle();
      expect(events).toEqual([{ where, action, error }]);
      expect(job.ioStatus).toBe(ioStatus);
      if (action === 'report') {
        await expect(job.finished).rejects.toBe(error);
      } else if (action === 'ignore') {
        await job.finished;
        expect(answers).toEqual(['ignore']);
      } else {
        expect(job.status).toBe('paused');
        job.resume();
        expect(job.ioStatus).toBe('ok');
        await job.finished;
        expect(answers).toEqual(['retry']);
      }
    }
  });

  it('several at once stop it once, and are all tried again', async () => {
    const answers: string[] = [];
    const job = new ScriptedJob(
      async ({ onError }) => {
        await Promise.all([broken, noSpace, broken].map(async (error) => answers.push(await onError('target', error))));
      },
      { onTargetError: 'stop' },
    );
    job.start();
    await settle();
    expect([job.status, job.ioStatus]).toEqual(['paused', 'failed']);
    job.resume();
    await job.finished;
    expect(answers).toEqual(['retry', 'retry', 'retry']);
  });

  it('stopped, it may be cancelled', async () => {
    const job = new ScriptedJob(async ({ onError }) => void (await onError('source', broken)), {
      onSourceError: 'stop',
    });
    job.start();
    await settle();
    job.cancel();
    await expect(job.finished).rejects.toBeInstanceOf(InterruptedError);
  });
});

describe('Job under any sequence of commands', () => {
  it.each(Array.from({ length: 60 }, (_, seed) => seed))('keeps to the table and ends, seed %i', async (seed) => {
    const random = seededRandom(seed);
    const canReady = random.oneIn(2);
    const fails = random.oneIn(4);
    const job = new ScriptedJob(
      async ({ pausePoint, becomeReady, onError, completed, waitFor }) => {
        for (let steps = random.integer(0, 20); steps > 0; steps--) {
          await turn();
          await pausePoint();
          if (random.oneIn(8)) await onError('source', new Error('read'));
        }
        if (canReady) {
          await becomeReady();
          await waitFor(completed);
        }
        if (fails) throw new Error('work');
      },
      { onSourceError: random.oneIn(2) ? 'stop' : 'report' },
    );
    job.isGentle = random.oneIn(2);
    let ended = false;
    const end = job.finished.then(
      () => 'done',
      (error: unknown) => error,
    );
    end.finally(() => {
      ended = true;
    });
    if (random.oneIn(3)) job.pause();
    if (!random.oneIn(20)) job.start();
    for (let commands = 0; !ended; commands++) {
      for (let turns = random.integer(0, 4); turns > 0; turns--) await turn();
      const command = random.integer(0, 9);
      if (command < 4) job.pause();
      else if (command < 8) job.resume();
      else if (commands > 20) job.cancel({ force: random.oneIn(2) });
      else if (command === 8) await job.complete().catch(() => {});
      else job.setSpeed(random.integer(0, 10));
    }
    expect(job.status).toBe('concluded');
    const outcome = await end;
    expect(job.hooks.filter((hook) => hook !== 'onComplete')).toEqual(
      outcome === 'done' ? ['prepare', 'commit', 'clean'] : ['abort', 'clean'],
    );
    let from: JobStatus = 'created';
    for (const to of job.statuses) {
      checkTransition('job', from, to);
      from = to;
    }
  });
});
