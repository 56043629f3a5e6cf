// SPDX-License-Identifier: MIT
// The configuration of nightly jobs: what it may say, and that whatever is wrong in it is told with its place.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FailedError } from '#vmar/src/base/errors.js';
import { ConfigError, parseConfig, readConfig } from '#vmar/src/nightly/config-file.js';
import { ConfigYaml } from '#vmar/src/nightly/config-yaml.js';

const WHOLE = `
datastores:
  main: /srv/backup
  offsite:
    path: /mnt/nas/vmar
    uuid: 00112233-4455-6677-8899-aabbccddeeff
    min-free: 50GiB
guests:
  0100:
    disks: {scsi0: /dev/vg/100-0, scsi1: 'nbd://host/x'}
    configs: /etc/vm/100.conf
    blobs: {efivars: /var/lib/vm/100.fd}
    bandwidth: 100MiB
    force-share: true
  north/vm/web:
    libvirt: web
    agent: /run/web.agent
    fleece: /var/tmp
    include: [vda, vdb]
    paranoid: false
  "*":
    qmp: /run/qemu/*.qmp
    agent: /run/qemu/*.agent
notify:
  mail: root@example.org
jobs:
  nightly:
    guests: [0100, "north/vm/*", "*"]
    exclude: 9*
    datastore: main
    schedule: Mon..Fri 02:00
    retention: {daily: 7, weekly: 4, last: 0}
    gc: {max-unused: 20%}
    verify: {schedule: Sat 04:00, older-than: 30d, budget: 2h}
    parallel: 3
    level: 3
    labels: {by: nightly}
    max-age: 26h
    timeout: 4h
    min-free: 1TiB
    retry: {attempts: 3, delay: 5min}
    hooks:
      before-job: [mount, /srv/backup]
      after-guest: echo $VMAR_GUEST
      timeout: 90s
    notify:
      when: always
      command: notify-send
      mail: {to: [a@b, c@d], from: vmar@host, sendmail: /usr/bin/msmtp}
      webhook: {url: 'https://example.org/x', headers: {Authorization: Bearer t}}
  tidy: {kind: prune, datastore: main, retention: all, gc: true}
  away: {kind: copy, from: main, to: offsite, guests: all, schedule: daily}
log: {to: /var/log/vmar.log, level: warn}
`;

describe('a configuration', () => {
  it('is read whole', () => {
    const { datastores, guests, jobs, log } = parseConfig(WHOLE, 'c.yaml');
    expect([...datastores.values()]).toEqual([
      { name: 'main', path: '/srv/backup', minFreeBytes: 0 },
      {
        ...{ name: 'offsite', path: '/mnt/nas/vmar', minFreeBytes: 50 * 2 ** 30 },
        uuid: '00112233445566778899aabbccddeeff',
      },
    ]);
    expect([...guests.keys()]).toEqual(['0100', 'north/vm/web', '*']);
    expect(guests.get('0100')).toMatchObject({
      source: {
        kind: 'images',
        forceShare: true,
        disks: new Map([
          ['scsi0', '/dev/vg/100-0'],
          ['scsi1', 'nbd://host/x'],
        ]),
      },
      configs: ['/etc/vm/100.conf'],
      blobs: new Map([['efivars', '/var/lib/vm/100.fd']]),
      bytesPerSecond: 100 * 2 ** 20,
    });
    expect(guests.get('*')).toMatchObject({ isPattern: true, source: { kind: 'qmp', socket: '/run/qemu/*.qmp' } });
    expect(jobs.get('nightly')).toMatchObject({
      kind: 'backup',
      guests: { include: ['0100', 'north/vm/*', '*'], exclude: ['9*'] },
      schedule: { text: 'Mon..Fri 02:00' },
      retention: { daily: 7, weekly: 4 },
      gc: { maxUnusedPercent: 20 },
      ...{ parallel: 3, level: 3, maxAgeMillis: 26 * 3600_000, timeoutMillis: 4 * 3600_000, minFreeBytes: 2 ** 40 },
      retry: { attempts: 3, delayMillis: 300_000 },
      hooks: {
        commands: {
          'before-job': { kind: 'words', words: ['mount', '/srv/backup'] },
          'after-guest': { kind: 'shell', text: 'echo $VMAR_GUEST' },
        },
        timeoutMillis: 90_000,
      },
      notify: { when: 'always', mail: { to: ['a@b', 'c@d'], sendmail: '/usr/bin/msmtp' } },
    });
    expect(log).toEqual({ to: { kind: 'file', path: '/var/log/vmar.log' }, level: 'warn' });
  });

  it('gives a backup with a verify schedule a second job, and jobs without a word of it the notify of all', () => {
    const { jobs } = parseConfig(WHOLE, 'c.yaml');
    expect([...jobs.keys()]).toEqual(['nightly', 'nightly-verify', 'tidy', 'away']);
    expect(jobs.get('nightly-verify')).toMatchObject({
      ...{ kind: 'verify', datastore: 'main', olderThanMillis: 30 * 86_400_000, budgetMillis: 7_200_000 },
      notify: { when: 'always' },
    });
    expect(jobs.get('tidy')).toMatchObject({
      retention: 'all',
      gc: {},
      notify: { when: 'failure', mail: { from: 'root' } },
    });
    expect(jobs.get('away')).toMatchObject({ kind: 'copy', from: 'main', to: 'offsite', guests: ['*'] });
  });

  it('may share parts by aliases', () => {
    const { jobs } = parseConfig(
      `
datastores: {main: /srv/backup}
jobs:
  a: &a {kind: gc, datastore: main, retry: {attempts: 2}}
  b: {<<: *a, schedule: daily}
`,
      'c.yaml',
    );
    expect(jobs.get('b')).toMatchObject({ kind: 'gc', retry: { attempts: 2 }, schedule: { text: '*-*-* 00:00:00' } });
  });
});

/** All problems, as `line:column place: message`. */
function problemsOf(text: string): string[] {
  try {
    parseConfig(text, 'c.yaml');
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ line, column, place, message }) => `${line}:${column} ${place}: ${message}`);
  }
  return [];
}

const HEAD = 'datastores: {main: /srv/backup}\nguests: {web: {disks: {a: /a}}}\n';

describe('what is wrong is told with line, column, what was found and what expected', () => {
  it.each<[string, string, string[]]>([
    [
      'an unknown key',
      `${HEAD}jobs:\n  n:\n    guests: all\n    datastore: main\n    schedul: daily\n`,
      ['7:5 jobs.n.schedul: unknown key; did you mean schedule?'],
    ],
    [
      'an unknown key that is like none',
      `${HEAD}jobs: {n: {kind: gc, datastore: main, colour: red}}\n`,
      ['3:39 jobs.n.colour: unknown key; known: kind, schedule, hooks, notify, retry, timeout, datastore, max-unused'],
    ],
    ['an unknown key at the top', `${HEAD}job: {}\njobs: {}\n`, ['3:1 job: unknown key; did you mean jobs?']],
    [
      'a word for a number',
      `${HEAD}jobs:\n  n:\n    guests: all\n    datastore: main\n    parallel: many\n`,
      ['7:15 jobs.n.parallel: expected a whole number from 1 to 256, found "many"'],
    ],
    [
      'a list for a text',
      `${HEAD}jobs:\n  n:\n    guests: all\n    datastore: [main]\n`,
      ['6:5 jobs.n.datastore: expected a name: letters, digits, ".", "_" and "-", found a list'],
    ],
    [
      'a text for a map',
      `${HEAD}jobs: {n: {kind: gc, datastore: main, hooks: yes}}\n`,
      ['3:46 jobs.n.hooks: expected a map with before-job, after-job, before-guest, after-guest, found "yes"'],
    ],
    [
      'what is missing',
      `${HEAD}jobs:\n  n:\n    guests: all\n`,
      ['4:3 jobs.n.datastore: is missing: expected a name: letters, digits, ".", "_" and "-"'],
    ],
    [
      'a job without guests',
      `${HEAD}jobs:\n  n:\n    guests: []\n    datastore: main\n`,
      ['5:5 jobs.n.guests: expected all, or a list of guests, of which "*" stands for any, found an empty list'],
    ],
    [
      'a quick verification in portions',
      `${HEAD}jobs: {n: {kind: verify, datastore: main, quick: true, budget: 2h}}\n`,
      ['3:50 jobs.n.quick: expected quick: true without older-than and budget, found "true"'],
    ],
    [
      'a datastore that is not there',
      `${HEAD}jobs: {n: {kind: gc, datastore: mian}}\n`,
      ['3:33 jobs.n.datastore: there is no datastore "mian"; did you mean main?'],
    ],
    [
      'a guest that is not there',
      `${HEAD}jobs:\n  n:\n    guests: [web, wbe]\n    datastore: main\n`,
      ['5:19 jobs.n.guests.1: there is no guest "wbe"; did you mean web?'],
    ],
    [
      'a schedule',
      `${HEAD}jobs:\n  n: {kind: gc, datastore: main, schedule: at night}\n`,
      [
        '4:44 jobs.n.schedule: expected a calendar event: daily, 02:00, "Mon..Fri 22:30", "Sat *-*-1..7 04:00", found "at night"',
      ],
    ],
    [
      'an unknown kind',
      `${HEAD}jobs:\n  n: {kind: bakcup, datastore: main}\n`,
      ['4:13 jobs.n.kind: expected backup, verify, prune, gc, copy, drill, found "bakcup"'],
    ],
    [
      'retention that keeps nothing',
      `${HEAD}jobs: {n: {kind: prune, datastore: main, retention: {daily: 0}}}\n`,
      [
        '3:42 jobs.n.retention: expected all, or how many to keep by rule: last, hourly, daily, weekly, monthly, yearly, at least one above 0, found a map',
      ],
    ],
    [
      'notify without a way',
      `${HEAD}notify: {when: always}\njobs: {}\n`,
      ['3:1 notify: expected at least one of command, mail and webhook, found a map'],
    ],
    [
      'a webhook, whose secrets are not shown',
      `${HEAD}notify: {webhook: 'htp://me:s3cret@x/s3cret'}\njobs: {}\n`,
      ['3:19 notify.webhook: expected a URL that begins with http:// or https://, found a text that is not shown'],
    ],
    [
      'values of headers that no request can have',
      `${HEAD}notify: {webhook: {url: 'http://x', headers: {X: "s3\\ncret", Y: 3 €}}}\njobs: {}\n`,
      [
        '3:50 notify.webhook.headers.X: expected a header: one line of Latin-1, found a text that is not shown',
        '3:65 notify.webhook.headers.Y: expected a header: one line of Latin-1, found a text that is not shown',
      ],
    ],
    [
      'names of headers that no request can have',
      `${HEAD}notify: {webhook: {url: 'http://x', headers: {a b: s3cret, Content-Length: 5}}}\njobs: {}\n`,
      [
        '3:52 notify.webhook.headers.a b: expected the name of a header, and none of content-length, transfer-encoding, found a text that is not shown',
        '3:76 notify.webhook.headers.Content-Length: expected the name of a header, and none of content-length, transfer-encoding, found a text that is not shown',
      ],
    ],
    [
      'an alias of nothing',
      `${HEAD}jobs:\n  n: {kind: gc, datastore: *nope}\n`,
      ['4:28 : there is no anchor "nope" before this alias'],
    ],
    [
      'two sources of a guest',
      'datastores: {}\nguests:\n  a:\n    qmp: /x\n    disks: {a: /a}\njobs: {}\n',
      ['3:3 guests.a: expected exactly one of disks, qmp and libvirt, found a map'],
    ],
    [
      'a relative path',
      'datastores: {main: srv}\njobs: {}\n',
      ['1:20 datastores.main: expected an absolute path, found "srv"'],
    ],
    [
      'a bad name of a guest',
      'datastores: {main: /srv}\nguests:\n  "a b": {disks: {a: /a}}\njobs: {}\n',
      ['3:3 guests.a b: expected 100, or NAMESPACE/vm/100, and at most one "*"'],
    ],
    [
      'a pattern without a socket',
      'datastores: {main: /srv}\nguests:\n  "*": {disks: {a: /a}}\njobs: {}\n',
      ['3:3 guests.*: a name with "*" needs a qmp path with one "*", which finds the guests'],
    ],
    ['a key twice', 'datastores:\n  main: /a\n  main: /b\njobs: {}\n', ['3:3 : Map keys must be unique']],
    [
      'no YAML',
      'datastores: {main: /a\n',
      ['2:1 : Flow map in block collection must be sufficiently indented and end with a }'],
    ],
    ['nothing', '', ['1:1 : is missing: expected a map with datastores, guests and jobs']],
    [
      'a drill of no kind',
      `${HEAD}jobs:\n  n: {kind: drill, datastore: main}\n`,
      ['4:3 jobs.n: expected either fsck: true, or boot: true with until, found a map'],
    ],
    [
      'two documents',
      `${HEAD}jobs: {}\n---\njobs: {}\n`,
      ['4:1 : a second document begins here: a configuration is one'],
    ],
    [
      'a NUL, which no command can hold',
      `${HEAD}jobs: {n: {kind: gc, datastore: main, hooks: {before-job: "printf '\\033[1m'"}}}\n`,
      ['3:59 : a NUL character, which no path or command can hold'],
    ],
    ['a name that JavaScript loses', `${HEAD}jobs: {__proto__: {kind: gc}}\n`, ['3:8 : this cannot be a name']],
    [
      'several at once',
      `${HEAD}jobs:\n  n: {kind: gc, datastor: main, retry: {attempts: 0}}\n`,
      [
        '4:3 jobs.n.datastore: is missing: expected a name: letters, digits, ".", "_" and "-"',
        '4:17 jobs.n.datastor: unknown key; did you mean datastore?',
        '4:51 jobs.n.retry.attempts: expected a whole number from 1 to 100, found "0"',
      ],
    ],
  ])('%s', (_, text, problems) => {
    expect(problemsOf(text)).toEqual(problems);
  });

  it('never as an error of the program, whatever is in the file', () => {
    const words = [
      'jobs',
      ':',
      '\n',
      '  ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '"',
      '*a',
      '&a',
      '<<',
      '!!x',
      'datastores',
      '#',
      '|',
      '\t',
      '? ',
      '\0',
      '%',
    ];
    for (let seed = 0; seed < 500; seed++) {
      let state = seed;
      const text = Array.from({ length: 12 }, () => {
        state = (state * 1103515245 + 12345) % 2 ** 31;
        return words[(state >> 8) % words.length];
      }).join('');
      try {
        parseConfig(text, 'c.yaml');
      } catch (error) {
        if (!(error instanceof ConfigError) && !(error instanceof FailedError))
          throw new Error(JSON.stringify(text), { cause: error });
      }
    }
  });

  it('and aliases that would make too much of it are refused', () => {
    const levels = Array.from(
      { length: 12 },
      (_, n) => `a${n}: &a${n} [${Array(10).fill(n === 0 ? 'x' : `*a${n - 1}`)}]`,
    );
    expect(() => parseConfig(`${levels.join('\n')}\n`, 'c.yaml')).toThrow(FailedError);
  });

  it('and what is no text is told by its line', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'vmar-config-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const file = join(directory, 'c.yaml');
    writeFileSync(file, Buffer.from(`${HEAD}jobs: {}\n# gr\xf6\xdfe\n`, 'latin1'));
    await expect(readConfig(file)).rejects.toMatchObject({
      problems: [{ line: 4, column: 1, place: '', message: 'this line is not UTF-8' }],
    });
  });

  it('and more of them than can be followed soon', () => {
    const lines = Array.from({ length: 10_001 }, (_, n) => `k${n}: *a`);
    const { problems } = ConfigYaml.parse(`k: &a x\n${lines.join('\n')}\n`);
    expect(problems).toEqual([{ line: 10_002, column: 9, place: '', message: 'more than 10000 aliases' }]);
  });

  it('a file that is not there is told as such', async () => {
    await expect(readConfig('/nowhere/vmar.yaml')).rejects.toMatchObject({
      ...{ code: 'config-unreadable', object: '/nowhere/vmar.yaml' },
    });
  });

  it('tens of thousands of mistakes are all found, each in its place', () => {
    // Where each is compared with all others this takes minutes.
    const count = 20_000;
    const unknown = Array.from({ length: count }, (_, n) => `k${n}: 1`);
    const guests = Array.from({ length: count }, (_, n) => `  g${n}: {disks: {a: relative}}`);
    const text = `datastores: {main: /x}\njobs: {n: {guests: all, datastore: main}}\n${unknown.join('\n')}\n`;
    const places = (more: string): string[] => {
      try {
        parseConfig(more, 'c.yaml');
      } catch (error) {
        if (error instanceof ConfigError) return error.problems.map(({ line, place }) => `${line} ${place}`);
        throw error;
      }
      return [];
    };
    expect(places(text)).toEqual(unknown.map((_, n) => `${n + 3} k${n}`));
    const wrong = places(
      `datastores: {main: /x}\njobs: {n: {guests: all, datastore: main}}\nguests:\n${guests.join('\n')}\n`,
    );
    expect(wrong).toEqual(guests.map((_, n) => `${n + 4} guests.g${n}.disks.a`));
  });
});
