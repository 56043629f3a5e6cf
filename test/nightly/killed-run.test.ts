// SPDX-License-Identifier: MIT
// Runs of jobs that are under way, and those that were killed: what the history, the page, the figures and the next run
// tell of them.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Json, Running } from '../cli/bench.js';
import { Nights } from './nights.js';

async function historyWith(night: Nights, isSo: (runs: Json[]) => boolean): Promise<Json[]> {
  for (let n = 0; n < 300; n++) {
    const runs = existsSync(night.bench.path('store', 'state', 'jobs')) ? await night.history() : [];
    if (isSo(runs)) return runs;
    await delay(100);
  }
  throw new Error('the history never was so');
}

const runLocks = (night: Nights): string[] =>
  readdirSync(night.bench.path('store', 'locks')).filter((name) => name.startsWith('job-'));

async function kill({ child, finished }: Running): Promise<void> {
  child.kill('SIGKILL');
  await finished;
}

/** 100 is done at once, 101 takes for ever, 102 waits. */
async function stuckNight(more = ''): Promise<Nights> {
  const night = new Nights();
  await night.init();
  night.configure(
    `
100: {disks: {a: ${night.image('a')}}}
101: {disks: {a: ${night.image('b', 64)}}, bandwidth: 64KiB}
102: {disks: {a: ${night.image('c')}}}
`,
    `nightly: {guests: all, datastore: main${more}}\nother: {guests: all, exclude: ["100", "101"], datastore: main}`,
  );
  return night;
}

it('a run that is killed leaves what it did, and the next one says so and tells somebody, once', async () => {
  const night = await stuckNight(', gc: true, notify: {command: "cat >> told"}');
  const running = night.start();
  const [run] = await historyWith(night, ([first]) => first?.guests[1]?.outcome === 'running');
  expect(run).toMatchObject({
    ...{ job: 'nightly', outcome: 'running', steps: [], warnings: [] },
    guests: [
      { guest: '100', outcome: 'ok', attempts: 1 },
      { guest: '101', outcome: 'running', attempts: 1 },
      { guest: '102', outcome: 'waiting', attempts: 0 },
    ],
  });
  for (const part of [run, run.guests[1], run.guests[2]]) expect(part).not.toHaveProperty('finished');
  expect(run).not.toHaveProperty('error');
  expect((await night.bench.json(night.words('list'))).jobs[0].last).toMatchObject({ outcome: 'running' });
  const figures = night.bench.path('figures');
  await night.bench.json([...night.words('run', 'other'), '--metrics', figures]);
  expect(readFileSync(figures, 'utf8')).not.toContain('vmar_job_last_run_ok{job="nightly"');
  // The lock of a run that lives is left alone.
  expect((await night.history()).map(({ outcome }) => outcome)).toEqual(['running', 'ok']);
  await kill(running);

  const killed = (await night.history())[0];
  expect(killed).toMatchObject({ outcome: 'failed', error: { code: 'run-killed' }, started: run.started });
  expect(killed.guests).toMatchObject([
    { guest: '100', outcome: 'ok', backup: run.guests[0].backup },
    {
      guest: '101',
      outcome: 'failed',
      error: { code: 'run-killed', message: 'the run was killed while this was under way' },
    },
    {
      guest: '102',
      outcome: 'failed',
      error: { code: 'run-killed', message: 'the run was killed before this was begun' },
    },
  ]);
  const page = night.bench.path('page.html');
  await night.bench.json(['report', '--html', page, '--config-file', night.config]);
  expect(readFileSync(page, 'utf8')).toContain('it did not report its end: killed, or cut off by a crash');
  await night.bench.json([...night.words('run', 'other'), '--metrics', figures]);
  expect(readFileSync(figures, 'utf8')).toContain('vmar_job_last_run_ok{job="nightly",kind="backup"} 0');
  expect(existsSync(night.bench.path('told'))).toBe(false);

  writeFileSync(night.config, readFileSync(night.config, 'utf8').replace(', bandwidth: 64KiB', ''), { mode: 0o600 });
  const { status, report, stderr } = await night.run();
  expect([status, report.outcome]).toEqual([0, 'ok']);
  const begun = run.started.replace(/\.\d+Z$/, 'Z');
  expect(report.warnings).toEqual([
    `the last run of this job, begun ${begun}: it did not report its end: killed, or cut off by a crash (1 of 3 guests were done)`,
  ]);
  expect(stderr).toContain(report.warnings[0]);
  expect(JSON.parse(readFileSync(night.bench.path('told'), 'utf8'))).toEqual(killed);
  expect(runLocks(night)).toEqual([]);
  expect((await night.run()).report.warnings).toEqual([]);
  expect(night.lines('told')).toHaveLength(1);
});

it('two runs at once of one job are two; the one that is killed is told from the other', async () => {
  const night = await stuckNight();
  const first = night.start();
  await historyWith(night, ([run]) => run?.guests[1]?.outcome === 'running');
  const second = night.start();
  await historyWith(night, (runs) => runs.length === 2 && runs.every(({ outcome }) => outcome === 'running'));
  expect(runLocks(night)).toHaveLength(2);
  await kill(first);
  expect((await night.history()).map(({ outcome }) => outcome)).toEqual(['failed', 'running']);
  second.child.kill('SIGTERM');
  const { status } = await second.finished;
  expect(status).toBe(130);
  const runs = await night.history();
  expect(runs.map(({ outcome, error }) => [outcome, error.code])).toEqual([
    ['failed', 'run-killed'],
    ['interrupted', 'interrupted'],
  ]);
  expect(runs[1].warnings).toEqual([]);
});
