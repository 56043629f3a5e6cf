// SPDX-License-Identifier: MIT
// The systemd units of nightly jobs: that systemd takes them, what they say, and that nobody else's files are touched.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '#vmar/src/nightly/config-file.js';
import { nextRun, parseSchedule } from '#vmar/src/nightly/schedule.js';
import { type TimerSettings, timerUnits, type UnitFile } from '#vmar/src/nightly/timer-units.js';
import { carryOut, planTimers } from '#vmar/src/nightly/timers.js';
import { commandWord, unitName, unitWord } from '#vmar/src/nightly/unit-text.js';
import { haveTool, scratchDirectory } from '../base/scratch.js';

const directory = scratchDirectory();
const FILE = '/etc/vmar/vm ar.yaml';
const SETTINGS: TimerSettings = {
  program: [process.execPath, '/opt/vm ar/50%/$HOME/vmar.js'],
  cacheDirectory: '/var/cache/vmar',
  isUser: false,
};
const CONFIG = `
datastores: {main: /srv/back up/100%, other: /mnt/nas}
guests:
  "100": {disks: {d: /dev/vg/100}}
  "*": {qmp: '/run/qemu/*.qmp', fleece: /fast/*/fleece}
log: {to: /var/log/vmar/jobs.log}
jobs:
  nightly: {guests: all, datastore: main, schedule: "02:00", parallel: 3}
  tidy.up: {kind: gc, datastore: main, schedule: "Sun 05:00"}
  away: {kind: copy, from: main, to: other, schedule: "*:0/15"}
  checks: {kind: verify, datastore: main, schedule: "Mon..Fri 22:30", budget: 2h}
  hooked: {guests: ["100"], datastore: main, schedule: daily, hooks: {before-job: mount /mnt/nas}}
  mailed: {guests: ["100"], datastore: main, schedule: weekly, notify: {when: failure, mail: root@localhost}}
  tried: {kind: drill, datastore: main, schedule: monthly, guests: ["100"], fsck: true}
  by-hand: {kind: prune, datastore: main, retention: {daily: 7}}
`;

function unitsOf(text = CONFIG, settings = SETTINGS): UnitFile[] {
  return timerUnits(parseConfig(text, FILE), settings).flatMap(({ service, timer }) => [service, timer]);
}

function unit(name: string, units = unitsOf()): string {
  const found = units.find((each) => each.name === name);
  if (found === undefined) throw new Error(`${name} is not in ${units.map((each) => each.name)}`);
  return found.content;
}

async function install(place: string, units: readonly UnitFile[], file = FILE) {
  const plan = await planTimers(place, file, units);
  await carryOut(plan);
  return plan;
}

const newPlace = (): string => mkdtempSync(join(directory, 'units-'));

describe('units', () => {
  it('are a service and a timer for each job with a schedule', () => {
    const jobs = ['nightly', 'tidy.up', 'away', 'checks', 'hooked', 'mailed', 'tried'];
    expect(unitsOf().map(({ name }) => name)).toEqual(
      jobs.flatMap((job) => [`vmar-job-${job}.service`, `vmar-job-${job}.timer`]),
    );
    const timer = unit('vmar-job-checks.timer');
    expect(timer).toContain('\nOnCalendar=Mon..Fri 22:30\n');
    expect(timer).toContain('\nPersistent=true\n');
    expect(timer).toContain('\nRandomizedDelaySec=300\n');
    expect(unit('vmar-job-away.timer')).toContain('\nRandomizedDelaySec=45\n');
  });

  it('let the job write where it must, and nowhere else', () => {
    const service = unit('vmar-job-nightly.service');
    expect(service).toContain('\nRequiresMountsFor="/srv/back up/100%%"\n');
    expect(service).toContain('\nProtectSystem=strict\n');
    const writable = '"-/srv/back up/100%%" -/var/cache/vmar -/fast -/tmp -/var/tmp -/var/log/vmar';
    expect(service).toContain(`\nReadWritePaths=${writable}\n`);
    expect(unit('vmar-job-away.service')).toContain('\nReadWritePaths="-/srv/back up/100%%" -/mnt/nas -/var/cache');
    // Fleecing files, sockets, disks and the JIT.
    expect(service).not.toMatch(
      /PrivateTmp|PrivateDevices|DeviceAllow|ProtectClock|MemoryDenyWriteExecute|PrivateNetwork/,
    );
    expect(service).toContain('\nMemoryMax=4294967296\n');
    // Any other kills the guardian of a guest together with the job.
    expect(service).toContain('\nKillMode=process\n');
    expect(unit('vmar-job-tidy.up.service')).toContain('\nMemoryMax=50%\n');
  });

  it('do not confine what runs programs that nobody knows', () => {
    for (const job of ['hooked', 'mailed', 'tried']) {
      const service = unit(`vmar-job-${job}.service`);
      expect(service, job).not.toMatch(/^(?:Protect|NoNew|Restrict|ReadWrite)/m);
      expect(service, job).toContain('\n# Not confined');
    }
    expect(unit('vmar-job-tried.service')).not.toContain('MemoryMax');
  });

  it('of a user have only what the systemd of a user can do', () => {
    const units = unitsOf(CONFIG, { ...SETTINGS, isUser: true, cacheDirectory: '/home/me/.cache/vmar' });
    const service = unit('vmar-job-nightly.service', units);
    expect(service).not.toMatch(/^(?:Protect|Restrict|ReadWrite|CacheDirectory|Wants)/m);
    expect(service).toContain('\nEnvironment=VMAR_CACHE_DIR=/home/me/.cache/vmar\n');
  });

  it('name and quote so that systemd reads what was meant', () => {
    expect(unitName('vmar-job-', 'a b/ü.x', 'timer')).toBe('vmar-job-a\\x20b\\x2f\\xc3\\xbc.x.timer');
    expect(unitName('', '.hidden', 'timer')).toBe('\\x2ehidden.timer');
    expect(unitWord('/a b/"c"\\d/5%\n')).toBe('"/a b/\\"c\\"\\\\d/5%%\\x0a"');
    expect(commandWord('$HOME')).toBe('$$HOME');
    expect(unit('vmar-job-nightly.service')).toContain(
      `\nExecStart=${process.execPath} "/opt/vm ar/50%%/$$HOME/vmar.js" job run nightly --config-file "/etc/vmar/vm ar.yaml"\n`,
    );
  });

  it.runIf(haveTool('systemd-analyze', 'that systemd takes the units of nightly jobs'))(
    'are taken by systemd without a word',
    async () => {
      for (const isUser of [false, true]) {
        const place = newPlace();
        const units = unitsOf(CONFIG, { ...SETTINGS, isUser });
        await install(place, units);
        const paths = units.map(({ name }) => join(place, name));
        const words = ['verify', '--man=no', ...(isUser ? ['--user'] : []), ...paths];
        const env = { ...process.env, XDG_RUNTIME_DIR: directory };
        const { status, stdout, stderr } = spawnSync('systemd-analyze', words, { encoding: 'utf8', env });
        expect({ status, said: stdout + stderr }).toEqual({ status: 0, said: '' });
        // It would have found something to say.
        writeFileSync(paths[0]!, readFileSync(paths[0]!, 'utf8').replace('ProtectSystem=', 'ProtectSystems='));
        const wrong = spawnSync('systemd-analyze', ['verify', '--man=no', paths[0]!], { encoding: 'utf8', env });
        if (!isUser) expect(wrong.stderr).toContain('ProtectSystems');
      }
    },
  );

  it.runIf(haveTool('systemd-analyze', 'that systemd names the times that vmar names'))(
    'run when vmar says that they do',
    () => {
      for (const text of [
        '02:00',
        'Mon..Fri 22:30',
        '*:0/15',
        'Sat *-*-1..7 04:00',
        'weekly',
        '*-*-* 0/6:15',
        'quarterly',
      ]) {
        const env = { ...process.env, TZ: 'UTC', LC_ALL: 'C' };
        const { stdout } = spawnSync(
          'systemd-analyze',
          ['calendar', '--base-time=2024-02-28 12:00', parseSchedule(text).text],
          {
            ...{ encoding: 'utf8', env },
          },
        );
        const [, next] = /Next elapse: \w+ (\S+ \S+) UTC/.exec(stdout) ?? [];
        const ours = new Date(nextRun(parseSchedule(text), new Date(2024, 1, 28, 12).getTime()));
        const local = new Date(ours.getTime() - ours.getTimezoneOffset() * 60_000);
        expect(next, text).toBe(local.toISOString().slice(0, 19).replace('T', ' '));
      }
    },
  );
});

describe('installing', () => {
  it('writes, leaves what is unchanged alone, and takes out what is no more', async () => {
    const place = newPlace();
    const units = unitsOf();
    const first = await install(place, units);
    expect(first).toMatchObject({ unchanged: [], removed: [] });
    expect(first.written).toEqual(units.map(({ name }) => name));
    expect(readdirSync(place)).toHaveLength(14);
    expect(statSync(join(place, 'vmar-job-nightly.timer')).mode & 0o777).toBe(0o644);
    const { ino } = statSync(join(place, 'vmar-job-nightly.timer'));
    const changed = unitsOf(CONFIG.replace('"02:00"', '"03:00"').replace(/^ {2}away.*\n/m, ''));
    mkdirSync(join(place, 'timers.target.wants'));
    for (const name of ['away', 'nightly']) {
      symlinkSync(join(place, `vmar-job-${name}.timer`), join(place, 'timers.target.wants', `vmar-job-${name}.timer`));
    }
    const second = await install(place, changed);
    expect(second.written).toEqual(['vmar-job-nightly.timer']);
    expect(second.removed).toEqual(['vmar-job-away.service', 'vmar-job-away.timer']);
    expect(statSync(join(place, 'vmar-job-nightly.timer')).ino).not.toBe(ino);
    expect(readdirSync(join(place, 'timers.target.wants'))).toEqual(['vmar-job-nightly.timer']);
    const serviceBefore = statSync(join(place, 'vmar-job-nightly.service')).ino;
    expect(await install(place, changed)).toMatchObject({ written: [], removed: [] });
    expect(statSync(join(place, 'vmar-job-nightly.service')).ino).toBe(serviceBefore);
    await install(place, []);
    expect(readdirSync(place)).toEqual(['timers.target.wants']);
    expect(readdirSync(join(place, 'timers.target.wants'))).toEqual([]);
  });

  it('refuses files that are not its own before it changes anything', async () => {
    const place = newPlace();
    writeFileSync(join(place, 'vmar-job-tried.timer'), '[Timer]\n');
    writeFileSync(join(place, 'vmar-job-mine.service'), '[Service]\n');
    await expect(planTimers(place, FILE, unitsOf())).rejects.toMatchObject({
      ...{ code: 'not-ours', object: join(place, 'vmar-job-tried.timer') },
    });
    expect(readdirSync(place)).toHaveLength(2);
    // A masked unit is a link to /dev/null.
    const masked = newPlace();
    symlinkSync('/dev/null', join(masked, 'vmar-job-nightly.timer'));
    await expect(planTimers(masked, FILE, unitsOf())).rejects.toMatchObject({ code: 'not-ours' });
    // Another configuration's stay, and are not taken over.
    const other = newPlace();
    const theirs = timerUnits(parseConfig(CONFIG, '/etc/other.yaml'), SETTINGS).map(({ timer }) => timer);
    await install(other, theirs, '/etc/other.yaml');
    await expect(planTimers(other, FILE, unitsOf())).rejects.toMatchObject({ code: 'other-timers' });
    expect(await install(other, [])).toMatchObject({ removed: [] });
    await expect(planTimers(join(directory, 'nowhere'), FILE, unitsOf())).rejects.toMatchObject({ exitStatus: 1 });
    await install(place, []);
    expect(existsSync(join(place, 'vmar-job-mine.service'))).toBe(true);
  });
});
