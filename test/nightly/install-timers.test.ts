// SPDX-License-Identifier: MIT
// vmar job install-timers from the command line, what it installs run as systemd would run it, and the metrics of jobs.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { parsePrometheus } from '../cli/prometheus.js';
import { Nights } from './nights.js';

const night = new Nights();
const { bench } = night;
const units = bench.path('units');
const env = { VMAR_DATASTORE: undefined };
const words = (...more: string[]): string[] => night.words('install-timers', '--directory', units, ...more);
const GUESTS = `"100": {disks: {d: ${bench.path('a.raw')}}}\n`;
const JOBS = 'nightly: {guests: all, datastore: main, schedule: "02:00"}\nby-hand: {kind: gc, datastore: main}\n';

beforeAll(async () => {
  await night.init();
  mkdirSync(units);
  night.image('a');
  night.configure(GUESTS, JOBS);
});

describe('vmar job install-timers', () => {
  it('says what it does, and what is to be done then', async () => {
    const dry = await bench.run(words('--dry-run'), { env });
    expect(dry).toMatchObject({ status: 0, stderr: '' });
    expect(dry.text).toContain(`would write ${units}/vmar-job-nightly.timer\n`);
    expect(dry.text).toContain('\nOnCalendar=02:00\n');
    expect(readdirSync(units)).toEqual([]);
    const { text } = await bench.run(words(), { env });
    expect(text.split('\n')).toEqual([
      `wrote ${units}/vmar-job-nightly.service`,
      `wrote ${units}/vmar-job-nightly.timer`,
      'by-hand has no schedule, and no timer',
      '',
      'Now run:',
      '  systemctl daemon-reload',
      '  systemctl enable --now vmar-job-nightly.timer',
      '',
    ]);
    expect(await bench.json(words(), { env })).toEqual({
      ...{ dryRun: false, directory: units, written: [], removed: [] },
      unchanged: ['vmar-job-nightly.service', 'vmar-job-nightly.timer'],
      next: ['systemctl enable --now vmar-job-nightly.timer'],
    });
  });

  it('takes out what it put in, whether the configuration is there or not', async () => {
    writeFileSync(bench.path('units', 'other.timer'), '[Timer]\n');
    rmSync(night.config);
    expect(await bench.error(words(), { env })).toMatchObject({ code: 'config-unreadable' });
    expect(await bench.json(words('--uninstall', '--user'), { env })).toMatchObject({
      removed: ['vmar-job-nightly.service', 'vmar-job-nightly.timer'],
      next: ['systemctl --user stop vmar-job-nightly.timer', 'systemctl --user daemon-reload'],
    });
    expect(readdirSync(units)).toEqual(['other.timer']);
    expect((await bench.run(words('--uninstall'), { env })).text).toBe(`there are no timers of vmar in ${units}\n`);
    night.configure(GUESTS, JOBS);
    writeFileSync(bench.path('units', 'vmar-job-nightly.timer'), '[Timer]\n');
    expect(await bench.error(words(), { env })).toMatchObject({ exit: 1, code: 'not-ours' });
    expect(readdirSync(units)).toHaveLength(2);
    rmSync(bench.path('units', 'vmar-job-nightly.timer'));
  });

  it('goes to the home of a user', async () => {
    const home = { ...env, HOME: bench.path('home') };
    mkdirSync(home.HOME, { recursive: true });
    const document = await bench.json(night.words('install-timers', '--user'), { env: home });
    expect(document.directory).toBe(bench.path('home', '.config/systemd/user'));
    expect(document.written).toHaveLength(2);
    expect(document.next).toContain('systemctl --user daemon-reload');
    expect(existsSync(`${document.directory}/vmar-job-nightly.service`)).toBe(true);
  });

  it('installs what runs with the file system read-only but for what the unit names', async () => {
    const probe = spawnSync('unshare', ['--mount', 'mount', '--make-rprivate', '/']);
    if (probe.status !== 0) {
      console.warn('\n!!! mount namespaces cannot be made: NOT TESTED: that a confined job can do its work\n');
      return;
    }
    await bench.json(words(), { env });
    const service = readFileSync(bench.path('units', 'vmar-job-nightly.service'), 'utf8');
    const line = (key: string): string => new RegExp(`^${key}=(.*)$`, 'm').exec(service)?.[1] ?? '';
    const cache = line('Environment').split('=')[1];
    expect(cache).toBe(bench.path('cache'));
    // The directory of the test is in /tmp, which would let it write anywhere there.
    const writable = line('ReadWritePaths')
      .split(' ')
      .map((path) => path.slice(1));
    expect(writable).toEqual([bench.store, cache, '/tmp', '/var/tmp']);
    mkdirSync(bench.path('cache'), { recursive: true });
    const confined = (paths: readonly string[]) => {
      const script = [
        'set -e',
        'mount --make-rprivate /',
        ...paths.map((path) => `mount --bind '${path}' '${path}'`),
        // As ProtectSystem=strict: all that is mounted, but for what the kernel and devices have.
        `for at in $(awk '{ print $2 }' /proc/mounts | sort -u); do
           case $at in /dev|/dev/*|/proc|/proc/*|/sys|/sys/*${paths.map((path) => `|${path}`).join('')}) ;;
           *) mount -o remount,bind,ro "$at" || true ;; esac; done`,
        '! touch /etc/vmar-test 2>/dev/null',
        `export VMAR_CACHE_DIR='${cache}'; exec setpriv --no-new-privs ${line('ExecStart')}`,
      ].join('\n');
      return spawnSync('unshare', ['--mount', 'sh', '-c', script], {
        encoding: 'utf8',
        env: { PATH: process.env.PATH },
      });
    };
    const { status, stdout, stderr } = confined([bench.store, bench.path('cache')]);
    expect(status, stdout + stderr).toBe(0);
    expect(await night.backups()).toHaveLength(1);
    expect(confined([bench.path('cache')]).status).toBe(1);
    expect(await night.backups()).toHaveLength(1);
  });
});

describe('vmar job run --metrics', () => {
  it('writes how each job went last, those too that ran before', async () => {
    const file = bench.path('jobs.prom');
    night.configure(
      `${GUESTS}"101": {disks: {d: ${bench.path('nowhere.raw')}}}\n`,
      `${JOBS}bad: {guests: "101", datastore: main}\n`,
    );
    await bench.run(night.words('run', 'by-hand'), { env });
    expect((await bench.run(night.words('run', 'nightly', '--metrics', file), { env })).status).toBe(1);
    const metrics = parsePrometheus(readFileSync(file, 'utf8'));
    const figure = (name: string): Record<string, number> =>
      Object.fromEntries(metrics.get(`vmar_job_${name}`)?.samples ?? []);
    expect(figure('last_run_ok')).toEqual({ 'job="nightly",kind="backup"': 0, 'job="by-hand",kind="gc"': 1 });
    expect(figure('last_run_guests')).toMatchObject({
      'job="nightly",kind="backup",outcome="ok"': 1,
      'job="nightly",kind="backup",outcome="failed"': 1,
    });
    expect(Object.keys(figure('next_run_timestamp_seconds'))).toEqual(['job="nightly",kind="backup"']);
    expect(figure('last_run_timestamp_seconds')['job="nightly",kind="backup"']).toBeGreaterThan(
      Date.now() / 1000 - 600,
    );
    const failed = await bench.run(night.words('run', 'by-hand', '--metrics', bench.path('no', 'such.prom')), { env });
    expect(failed.status).toBe(0);
    expect(failed.stderr).toContain('such.prom');
  });
});
