// SPDX-License-Identifier: MIT
// job check, list and history, and a configuration that is wrong, on the command line.

import { spawnSync } from 'node:child_process';
import { chmodSync, closeSync, constants, existsSync, openSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { Nights } from './nights.js';

const night = new Nights();

beforeAll(async () => {
  await night.init();
  night.configure(
    `
100: {disks: {a: ${night.image('a')}}}
101: {disks: {a: ${night.bench.path('missing.raw')}}, configs: ${night.bench.path('no.conf')}}
`,
    `
nightly: {guests: ["100"], datastore: main, schedule: 02:00, verify: {schedule: weekly, older-than: 30d}}
odd: {guests: all, datastore: main, labels: {"no good": x}, hooks: {before-job: [/nowhere/hook]}}
tidy: {kind: prune, datastore: main, guests: ["100"], retention: {last: 5}}
`,
  );
});

describe('job check', () => {
  it('tells what the file names and is not there, and what vmar itself would refuse', async () => {
    const finished = await night.bench.run(['--json', ...night.words('check')]);
    expect(finished.status).toBe(1);
    expect(finished.json()).toEqual({
      ...{ ok: false, file: night.config, problems: [] },
      host: [
        { place: 'guests.101', message: `${night.bench.path('missing.raw')} is not there` },
        { place: 'guests.101', message: `${night.bench.path('no.conf')} is not there` },
        { place: 'jobs.odd', message: '/nowhere/hook cannot be run' },
        { place: 'jobs.odd', message: expect.stringMatching(/^100: --label no good: this is not the key of a label/) },
        { place: 'jobs.odd', message: expect.stringMatching(/^101: --label no good/) },
      ],
    });
  });

  it('minds who can write to it, and is content with what is right', async () => {
    const good = new Nights();
    await good.init();
    good.configure(`100: {disks: {a: ${good.image('a')}}}`, 'nightly: {guests: all, datastore: main}');
    expect(await good.bench.json(good.words('check'))).toEqual({ ok: true, file: good.config, problems: [], host: [] });
    chmodSync(good.config, 0o622);
    expect((await good.bench.run(good.words('check'))).text).toContain('others can write to it');
  });

  it('tells all that is wrong in the file, by line and column; other commands tell the first', async () => {
    const config = night.bench.path('wrong.yaml');
    writeFileSync(
      config,
      'datastores:\n  main: /x\njobs:\n  n:\n    kind: gc\n    datastor: main\n  m: {kind: gc, datastore: 7 x}\n',
    );
    const finished = await night.bench.run(['job', 'check', '--config-file', config]);
    expect([finished.status, finished.text]).toEqual([
      2,
      `${config}:4:3: jobs.n.datastore: is missing: expected a name: letters, digits, ".", "_" and "-"
${config}:6:5: jobs.n.datastor: unknown key; did you mean datastore?
${config}:7:28: jobs.m.datastore: expected a name: letters, digits, ".", "_" and "-", found "7 x"
`,
    ]);
    // The environment names it as well as the flag does.
    const error = await night.bench.error(['job', 'run', 'n'], { env: { VMAR_CONFIG: config } });
    expect(error).toMatchObject({ code: 'bad-config', exit: 2, object: `${config}:4:3` });
    expect(error.message).toContain('and 2 more');
  });
});

it('a configuration through a FIFO is waited for, and the waiting can be interrupted', async () => {
  const fifo = night.bench.path('fifo');
  spawnSync('mkfifo', [fifo]);
  const { child, finished } = night.bench.start(['--json', 'job', 'list', '--config-file', fifo]);
  // It can be opened so once somebody reads it.
  let writer: number | undefined;
  for (let n = 0; writer === undefined && n < 600; n++) {
    try {
      writer = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
    } catch {
      await delay(50);
    }
  }
  child.kill('SIGINT');
  const ended = finished.then(({ status }) => status);
  // Else it would end with the file, and not by the signal.
  expect(await Promise.race([ended, delay(20_000).then(() => 'still waiting')])).toBe(130);
  closeSync(writer!);
});

describe('job run', () => {
  it('of a job that is not there says what may be meant, and of none that one is missing', async () => {
    expect(await night.bench.error(night.words('run', 'nigthly'))).toMatchObject({
      ...{ code: 'no-such-job', exit: 4, advice: 'Did you mean nightly?' },
    });
    expect(await night.bench.error(night.words('run'))).toMatchObject({ code: 'no-job', exit: 2 });
  });
});

describe('job list and history', () => {
  it('say what runs when, and how it went', async () => {
    expect((await night.run('nightly')).status).toBe(0);
    expect((await night.run('tidy')).status).toBe(0);
    const { jobs } = await night.bench.json(night.words('list'));
    expect(jobs).toMatchObject([
      {
        job: 'nightly',
        kind: 'backup',
        schedule: '02:00',
        next: expect.stringMatching(/T02:00:00.000Z$/),
        last: { outcome: 'ok' },
      },
      { job: 'nightly-verify', kind: 'verify', next: expect.any(String) },
      { job: 'odd', kind: 'backup' },
      { job: 'tidy', kind: 'prune', last: { outcome: 'ok' } },
    ]);
    expect(jobs[2].last).toBeUndefined();
    const text = await night.bench.run(night.words('history', '--guests'), { env: { VMAR_DATASTORE: undefined } });
    expect(text.text).toMatch(/^\S+ \S+ +nightly +backup +ok +\S+ s +1 of 1 /m);
    expect(text.text).toMatch(/^100 +ok /m);
    // A configuration goes before the environment, --datastore before it.
    await night.bench.json(['init', 'other']);
    const env = { VMAR_DATASTORE: night.bench.path('other') };
    expect((await night.bench.json(night.words('history'), { env })).runs).toHaveLength(2);
    expect((await night.bench.json(['--datastore', 'other', ...night.words('history')])).runs).toEqual([]);
    expect((await night.bench.json(night.words('history', 'tidy'))).runs).toMatchObject([{ job: 'tidy', guests: [] }]);
    expect((await night.bench.json(['job', 'history', '--last', '1'])).runs).toHaveLength(1);
  });

  it('history of a datastore that is not there is an error, and makes none', async () => {
    const nowhere = night.bench.path('nowhere');
    expect(await night.bench.error(['--datastore', nowhere, 'job', 'history'])).toMatchObject({
      code: 'not-a-datastore',
    });
    expect(existsSync(nowhere)).toBe(false);
  });
});
