// SPDX-License-Identifier: MIT
// Hooks that say more than anybody reads, or leave behind what does not want to end; and a log that cannot be written.

import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { commandWords } from '#vmar/src/nightly/hooks.js';
import { runProgram } from '#vmar/src/nightly/program.js';
import { Nights } from './nights.js';

const shell = (text: string) => commandWords({ kind: 'shell', text });

function isAlive(pid: number): boolean {
  // A zombie is not alive.
  const status = `/proc/${pid}/status`;
  return existsSync(status) && !/^State:\s+Z/m.test(readFileSync(status, 'utf8'));
}

it('what a hook started is killed with it, though it ends before, and they let SIGTERM pass', async () => {
  const night = new Nights();
  const pid = night.bench.path('pid');
  // The pipe to us is closed, so that nobody waits for it by chance.
  const text = `(trap '' TERM; echo $$ >/dev/null; exec sleep 600) >&- 2>&- & echo $! > ${pid}; wait`;
  const end = await runProgram({ words: shell(text), env: process.env, killsGroup: true, timeoutMillis: 1000 });
  expect(end).toMatchObject({ timedOut: true, signal: 'SIGTERM' });
  expect(isAlive(Number(readFileSync(pid, 'utf8')))).toBe(false);
});

it('what a hook left running on purpose lives on when it ends by itself', async () => {
  const night = new Nights();
  const pid = night.bench.path('pid');
  const text = `sleep 600 & echo $! > ${pid}`;
  await runProgram({ words: shell(text), env: process.env, killsGroup: true, timeoutMillis: 60_000 });
  const left = Number(readFileSync(pid, 'utf8'));
  expect(isAlive(left)).toBe(true);
  process.kill(left);
});

it('a hook that talks without end fills no log', async () => {
  const night = new Nights();
  await night.init();
  const log = night.bench.path('log.json');
  night.configure(
    '100: {disks: {a: /nowhere}}',
    `nightly: {kind: gc, datastore: main, hooks: {before-job: 'yes hello | head -n 200000'}}`,
    `log: ${log}\n`,
  );
  expect((await night.run()).status).toBe(0);
  const said = readFileSync(log, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ event }) => event === 'hook-says');
  expect(said).toHaveLength(1001);
  expect(said.at(-1).msg).toBe('(and 199000 more lines, which are not kept)');
});

it('a log that cannot be written costs no night', async () => {
  const night = new Nights();
  await night.init();
  const nowhere = night.bench.path('nowhere', 'log');
  night.configure(
    `100: {disks: {a: ${night.image('a')}}}`,
    'nightly: {guests: all, datastore: main}',
    `log: ${nowhere}\n`,
  );
  const { status, report, stderr } = await night.run();
  expect(status).toBe(0);
  expect(report.guests).toMatchObject([{ outcome: 'ok' }]);
  expect(report.warnings).toEqual([`${nowhere}: the log cannot be written: ENOENT`]);
  expect(stderr).toContain('the log cannot be written: ENOENT');
  expect((await night.bench.run(['--json', ...night.words('check')])).json().host).toEqual([
    { place: 'log', message: `${night.bench.path('nowhere')} is not there` },
  ]);
});
