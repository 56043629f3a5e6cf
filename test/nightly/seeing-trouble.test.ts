// SPDX-License-Identifier: MIT
// What looks well and is not: a job that its first hook kept from running, a datastore that cannot be written. And figures
// that are called the same from wherever they are taken.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { expect, it } from 'vitest';
import { mountSmallDisk } from '../crash/small-disk.js';
import { Nights } from './nights.js';

it('a report says that a job failed which its first hook kept from running', async () => {
  const night = new Nights();
  await night.init();
  const go = night.bench.path('go');
  night.configure(
    `100: {disks: {a: ${night.image('a')}}}`,
    `nightly: {guests: all, datastore: main, hooks: {before-job: "test -e ${go} || { echo '  no tape' >&2; exit 3; }"}}`,
  );
  const html = night.bench.path('r.html');
  const look = () => night.bench.json(['report', '--html', html, '--config-file', night.config]);
  night.directory('go');
  expect((await night.run()).status).toBe(0);
  expect(await look()).toMatchObject({ ok: true });
  spawnSync('rmdir', [go]);
  const { report } = await night.run();
  expect(report).toMatchObject({
    outcome: 'skipped',
    error: { message: 'the before-job hook ended with status 3: no tape' },
  });
  expect(await look()).toMatchObject({ ok: false });
  expect(readFileSync(html, 'utf8')).toContain('A job failed');
});

it('job check says of a datastore that it cannot be written to', async () => {
  const night = new Nights();
  const mount = night.bench.path('small');
  if (!mountSmallDisk('tmpfs', mount, 16)) return;
  await night.bench.json(['init', `${mount}/away`]);
  await night.init();
  night.configure(
    `100: {disks: {a: ${night.image('a')}}}`,
    'nightly: {guests: all, datastore: main}',
    '',
    `away: ${mount}/away`,
  );
  expect(await night.bench.json(night.words('check'))).toMatchObject({ ok: true });
  expect(spawnSync('mount', ['-o', 'remount,ro', mount]).status).toBe(0);
  const checked = await night.bench.run(['--json', ...night.words('check')]);
  expect(checked.status).toBe(1);
  expect(checked.json().host).toEqual([
    { place: 'datastores.away', message: `${mount}/away: it cannot be written to: the file system is read-only` },
  ]);
});

it('metrics name the datastore by its absolute path, however it was given', async () => {
  const night = new Nights();
  await night.init();
  const { store } = night.bench;
  for (const command of ['stats', 'status']) {
    const file = night.bench.path(`${command}.prom`);
    // The working directory is the one that it lies in.
    const words = ['--datastore', basename(store), command, '--metrics', file];
    expect((await night.bench.run(words)).status).toBe(0);
    const labels = [...readFileSync(file, 'utf8').matchAll(/datastore="([^"]*)"/g)].map(([, name]) => name);
    expect(new Set(labels)).toEqual(new Set([store]));
  }
});
