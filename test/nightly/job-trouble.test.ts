// SPDX-License-Identifier: MIT
// What a run of a job does when something is not as it should be: the built program, real locks, disks, hooks and mounts.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { haveTool } from '../base/scratch.js';
import { mountSmallDisk } from '../crash/small-disk.js';
import { Nights, webServer } from './nights.js';

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let n = 0; n < 600; n++) {
    if (condition()) return;
    await delay(50);
  }
  throw new Error(`this did not come: ${what}`);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    // A zombie is not alive.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

const pidIn = (path: string): number => Number(readFileSync(path, 'utf8').trim() || Number.NaN);

describe('a datastore that is not there', () => {
  it('is refused, nothing is made in its place, and somebody is told', async () => {
    const night = new Nights();
    const { url, posted } = await webServer();
    mkdirSync(night.bench.store);
    night.configure(
      `100: {disks: {a: ${night.image('a')}}}`,
      `nightly: {guests: all, datastore: main, gc: true, retention: {last: 1}, notify: {webhook: '${url}'}}`,
    );
    const { status, report, stderr } = await night.run();
    expect(status).toBe(1);
    expect(report).toMatchObject({ outcome: 'failed', guests: [], steps: [], error: { code: 'not-a-datastore' } });
    expect(report.warnings).toEqual(['the report of this run is not kept: the datastore is not there']);
    expect(stderr).toContain('is not kept');
    expect(readdirSync(night.bench.store)).toEqual([]);
    expect(posted[0]?.document).toMatchObject({ outcome: 'failed', error: { code: 'not-a-datastore' } });
    rmSync(night.bench.store, { recursive: true });
    expect((await night.run()).report.error.message).toContain('no such directory');
    expect(existsSync(night.bench.store)).toBe(false);
  });

  it('is another one than the configuration means: that one is left alone', async () => {
    const night = new Nights();
    await night.init();
    night.configure(`100: {disks: {a: ${night.image('a')}}}`, 'nightly: {guests: all, datastore: main}');
    const text = readFileSync(night.config, 'utf8');
    writeFileSync(night.config, text.replace(/main: (.*)/, `main: {path: $1, uuid: ${'0'.repeat(31)}1}`));
    const { status, report } = await night.run();
    expect([status, report.error.code]).toEqual([1, 'wrong-datastore']);
    expect(await night.backups()).toEqual([]);
    expect(readdirSync(night.bench.path('store', 'state'))).toEqual([]);
  });

  it('that the first hook mounts and the last unmounts has the report, and nothing is made once it is away', async () => {
    const night = new Nights();
    await night.init();
    const [store, away] = [night.bench.store, night.bench.path('away')];
    spawnSync('mv', [store, away]);
    mkdirSync(store);
    night.configure(
      `100: {disks: {a: ${night.image('a')}}}`,
      `nightly:
  guests: all
  datastore: main
  hooks:
    before-job: rmdir ${store} && mv ${away} ${store}
    after-job: mv ${store} ${away} && mkdir ${store} && false
`,
    );
    const { status, report } = await night.run();
    // The hook that failed is said, though the report that says so finds no place.
    expect(status).toBe(1);
    expect(report).toMatchObject({ outcome: 'failed', error: { code: 'hook-failed' }, guests: [{ outcome: 'ok' }] });
    expect(readdirSync(store)).toEqual([]);
    expect(readdirSync(`${away}/state/jobs`)).toHaveLength(1);
  });
});

describe('a guest that somebody else works on', () => {
  it('is busy, is tried again, and a lock of a process that was killed is none', async () => {
    const night = new Nights();
    await night.init();
    night.configure(
      `100: {disks: {a: ${night.image('a')}}}`,
      'nightly: {guests: all, datastore: main, retry: {attempts: 2, delay: 0.2s}}',
    );
    const lock = night.bench.path('store', 'locks', 'guest-vm+100.lock');
    const holder = spawn('flock', [lock, 'sleep', '600'], { detached: true, stdio: 'ignore' });
    onTestFinished(() => {
      holder.kill('SIGKILL');
    });
    await until(() => existsSync(lock) && spawnSync('flock', ['-n', lock, 'true']).status === 1, 'the lock');
    const busy = await night.run();
    expect(busy.status).toBe(1);
    expect(busy.report.guests).toMatchObject([{ outcome: 'busy', attempts: 2, error: { code: 'guest-busy' } }]);
    process.kill(-holder.pid!, 'SIGKILL');
    const free = await night.run();
    expect([free.status, free.report.guests[0].attempts]).toEqual([0, 1]);
  });
});

describe('hooks', () => {
  it('that hang are killed with all that they started; others that fail skip the guest; those after always run', async () => {
    const night = new Nights();
    await night.init();
    const [pid, hooks] = [night.bench.path('pid'), night.bench.path('hooks')];
    night.configure(
      `
100: {disks: {a: ${night.image('a')}}}
101: {disks: {a: ${night.image('b')}}}
102: {disks: {a: ${night.image('c')}}}
`,
      `nightly:
  guests: all
  datastore: main
  hooks:
    before-guest: |
      test $VMAR_GUEST != 101 || exit 7
      if test $VMAR_GUEST = 100; then trap '' TERM; sleep 600 & echo $! > ${pid}; wait; sleep 600; fi
    after-guest: echo $VMAR_GUEST $VMAR_OUTCOME $VMAR_ERROR_CODE >> ${hooks}
    after-job: echo $VMAR_OUTCOME >> ${hooks}
    timeout: 2s
`,
    );
    const { status, report } = await night.run();
    expect(status).toBe(1);
    expect(report.guests).toMatchObject([
      {
        guest: '100',
        outcome: 'skipped',
        attempts: 0,
        error: { message: expect.stringContaining('had not ended after 2 s') },
      },
      { guest: '101', outcome: 'skipped', attempts: 0, error: { message: expect.stringContaining('status 7') } },
      { guest: '102', outcome: 'ok' },
    ]);
    expect(night.lines('hooks')).toEqual(['100 skipped hook-failed', '101 skipped hook-failed', '102 ok', 'failed']);
    expect(isAlive(pidIn(pid))).toBe(false);
  });

  it('that fail before the job skip it, and that is said', async () => {
    const night = new Nights();
    await night.init();
    night.configure(
      `100: {disks: {a: ${night.image('a')}}}`,
      `nightly:
  guests: all
  datastore: main
  hooks: {before-job: [sh, -c, 'echo no disk >&2; exit 3'], after-job: touch ${night.bench.path('after')}}
`,
    );
    const { status, report, stderr } = await night.run();
    expect(status).toBe(1);
    expect(report).toMatchObject({ outcome: 'skipped', guests: [], error: { code: 'hook-failed' } });
    expect(report.error.message).toBe('the before-job hook ended with status 3: no disk');
    expect(stderr).toContain('the before-job hook ended with status 3: no disk');
    expect(existsSync(night.bench.path('after'))).toBe(true);
    expect(await night.history()).toMatchObject([{ outcome: 'skipped' }]);
  });
});

it('notifications that fail are said and kept, and change nothing else', async () => {
  const night = new Nights();
  await night.init();
  const [silent, refusing] = [await webServer(0), await webServer(500)];
  const job = (url: string) =>
    `{kind: gc, datastore: main, notify: {when: always, timeout: 2s, command: 'exit 4', mail: {to: a@b, sendmail: /nowhere/sendmail}, webhook: '${url}'}}`;
  night.configure('', `nightly: ${job(silent.url)}\nother: ${job(refusing.url)}`);
  const text = readFileSync(night.config, 'utf8');
  writeFileSync(night.config, text.replace('guests:\n', ''));
  for (const [name, problem] of [
    ['nightly', 'no answer within 2 s'],
    ['other', 'it answered with status 500'],
  ] as const) {
    const { status, report, stderr } = await night.run(name);
    expect([status, report.outcome]).toEqual([0, 'ok']);
    expect(report.warnings).toEqual([
      'nobody was told by the command: it ended with status 4',
      expect.stringMatching(/^nobody was told by the mail: \/nowhere\/sendmail cannot be run/),
      `nobody was told by the webhook: ${problem}`,
    ]);
    for (const warning of report.warnings) expect(stderr).toContain(warning);
  }
  expect((await night.history()).map(({ warnings }) => warnings.length)).toEqual([3, 3]);
});

describe('an interrupted run', () => {
  it('tells its backups, waits for them, and says so', async () => {
    const night = new Nights();
    await night.init();
    const hooks = night.bench.path('hooks');
    night.configure(
      `
100: {disks: {a: ${night.image('a', 64)}}, bandwidth: 64KiB}
101: {disks: {a: ${night.image('b')}}}
`,
      `nightly:
  guests: all
  datastore: main
  retention: {last: 1}
  gc: true
  hooks: {after-guest: echo $VMAR_GUEST $VMAR_OUTCOME >> ${hooks}, after-job: echo job $VMAR_OUTCOME >> ${hooks}}
  notify: {command: touch ${night.bench.path('told')}}
`,
    );
    const { child, finished } = night.start();
    await until(() => existsSync(night.bench.path('store', 'locks', 'guest-vm+100.lock')), 'the backup');
    await delay(300);
    child.kill('SIGTERM');
    const { status, json } = await finished;
    expect(status).toBe(130);
    const [report] = json().jobs;
    expect(report).toMatchObject({
      outcome: 'interrupted',
      guests: [
        { guest: '100', outcome: 'interrupted', attempts: 1 },
        { guest: '101', outcome: 'interrupted', attempts: 0 },
      ],
      steps: [{ step: 'gc', outcome: 'interrupted' }],
    });
    expect(night.lines('hooks')).toEqual(['100 interrupted', 'job interrupted']);
    expect(existsSync(night.bench.path('told'))).toBe(true);
    expect(await night.history()).toMatchObject([{ outcome: 'interrupted' }]);
    expect(await night.backups()).toEqual([]);
    expect(night.leftovers()).toEqual([]);
  });
});

it('a runner that is killed takes its backups along, in order, and the next run goes well', async () => {
  const night = new Nights();
  await night.init();
  const guest = `100: {disks: {a: ${night.image('a', 64)}}`;
  night.configure(`${guest}, bandwidth: 64KiB}`, 'nightly: {guests: all, datastore: main}');
  const { child, finished } = night.start();
  const lock = night.bench.path('store', 'locks', 'guest-vm+100.lock');
  await until(() => existsSync(lock), 'the backup');
  child.kill('SIGKILL');
  await finished;
  await until(() => spawnSync('flock', ['-n', lock, 'true']).status === 0, 'the end of the backup');
  // The runner may have been writing its report.
  await night.bench.json(['verify', '--quick']);
  expect(night.leftovers()).toEqual([]);
  expect(await night.backups()).toEqual([]);
  night.configure(`${guest}}`, 'nightly: {guests: all, datastore: main}');
  expect((await night.run()).report).toMatchObject({ outcome: 'ok', guests: [{ guest: '100', attempts: 1 }] });
});

it('a backup that takes too long is told to end, and the others go on', async () => {
  const night = new Nights();
  await night.init();
  night.configure(
    `
100: {disks: {a: ${night.image('a', 64)}}, bandwidth: 64KiB}
101: {disks: {a: ${night.image('b')}}}
`,
    'nightly: {guests: all, datastore: main, timeout: 6s, parallel: 2, retry: {attempts: 3}}',
  );
  const { status, report } = await night.run();
  expect(status).toBe(1);
  const guests = Object.fromEntries(report.guests.map((guest: { guest: string }) => [guest.guest, guest]));
  expect(guests['100']).toMatchObject({ outcome: 'failed', attempts: 1, error: { code: 'timeout' } });
  expect(guests['101']).toMatchObject({ outcome: 'ok' });
  expect(night.leftovers()).toEqual([]);
});

it('a full disk fails the guests and the report, says so, and leaves what was there', async () => {
  const night = new Nights();
  if (!mountSmallDisk('tmpfs', night.directory('small'), 4)) return;
  const store = night.bench.path('small', 'store');
  await night.bench.json(['init', store]);
  night.configure(
    `
100: {disks: {a: ${night.image('a', 4)}}}
101: {disks: {a: ${night.image('b', 128)}}}
`,
    'nightly: {guests: ["100"], datastore: main}\nlarge: {guests: ["101"], datastore: main}\nroomy: {guests: all, datastore: main, min-free: 1GiB}',
  );
  writeFileSync(night.config, readFileSync(night.config, 'utf8').replace(/main: .*/, `main: ${store}`));
  expect((await night.run()).status).toBe(0);
  const { status, report } = await night.run('large');
  expect(status).toBe(1);
  expect(report.guests).toMatchObject([{ guest: '101', outcome: 'failed', error: { code: 'no-space' } }]);
  const roomy = await night.run('roomy');
  expect(roomy.report.guests).toMatchObject([{ error: { code: 'min-free' } }, { error: { code: 'min-free' } }]);
  // Not even a report has room.
  const { bavail, bsize } = statfsSync(store);
  writeFileSync(night.bench.path('small', 'filler'), Buffer.alloc(bavail * bsize));
  const full = await night.run();
  expect(full.status).toBe(1);
  expect(full.report.warnings[0]).toMatch(/^nothing tells of this run while it is under way: .*no space is left/);
  expect(full.report.guests).toMatchObject([{ guest: '100', attempts: 1 }]);
  expect(full.report.warnings.at(-1)).toMatch(/the report of this run is not kept: .*no space is left/);
  rmSync(night.bench.path('small', 'filler'));
  expect((await night.run()).status).toBe(0);
  expect(await night.bench.json(['--datastore', store, 'verify'])).toMatchObject({ ok: true });
});

it.skipIf(!haveTool('python3', 'that mails of jobs are well-formed'))(
  'mails are well-formed, with subject and table',
  async () => {
    const night = new Nights();
    await night.init();
    const sendmail = night.bench.path('sendmail');
    const kept = night.bench.path('mail');
    writeFileSync(sendmail, `#!/bin/sh\necho "$@" > ${kept}.words\ncat > ${kept}\n`, { mode: 0o755 });
    night.configure(
      `
100: {disks: {a: ${night.image('a')}}}
101: {disks: {a: ${night.bench.path('größe-=-missing.raw')}}}
`,
      `nightly: {guests: all, datastore: main, notify: {mail: {to: [ops@example.org, b@c], from: vmar@host, sendmail: ${sendmail}}}}`,
    );
    await night.run();
    expect(night.lines('mail.words')).toEqual(['-i -f vmar@host -- ops@example.org b@c']);
    const read = `
import email, email.policy, json, sys
m = email.message_from_binary_file(open(sys.argv[1], 'rb'), policy=email.policy.default)
print(json.dumps({**{k.lower(): str(v) for k, v in m.items()}, 'body': m.get_content(), 'defects': [str(d) for d in m.defects],
  'longest': max(len(l) for l in open(sys.argv[1], 'rb').read().split(b'\\n'))}))`;
    const mail = JSON.parse(spawnSync('python3', ['-c', read, kept], { encoding: 'utf8' }).stdout);
    expect(mail).toMatchObject({
      from: 'vmar@host',
      to: 'ops@example.org, b@c',
      defects: [],
      'auto-submitted': 'auto-generated',
    });
    expect(mail.subject).toMatch(/^vmar: nightly on .*: 1 of 2 guests failed$/);
    expect(mail.longest).toBeLessThanOrEqual(78);
    expect(mail.body).toMatch(/^guest +outcome +took/m);
    expect(mail.body).toMatch(/^100 +ok .*vm\/100\//m);
    expect(mail.body).toMatch(/^101 +failed .*größe-=-missing\.raw/m);
    expect(mail.body).toContain('nightly: failed, 1 of 2 guests failed');
  },
);
