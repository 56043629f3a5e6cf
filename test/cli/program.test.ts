// SPDX-License-Identifier: MIT
// Both programs as such: help, version, options of all commands, errors in the words themselves.

import { spawnSync } from 'node:child_process';
import { mkdirSync, openSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { Bench } from './bench.js';

const bench = new Bench();
const VMAR = fileURLToPath(new URL('../../dist/bundle/cli/vmar.js', import.meta.url));
const COMMANDS = ['init', 'backup', 'list', 'show', 'diff', 'verify', 'restore', 'forget'];

beforeAll(async () => {
  await bench.json(['init', bench.store]);
});

describe('help and version', () => {
  it('prints the version of the package', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
    expect(await bench.run(['--version'])).toMatchObject({ status: 0, text: `vmar ${version}\n`, stderr: '' });
    const other = await bench.run(['--version'], { program: 'vma-restore' });
    expect(other).toMatchObject({ status: 0, text: `vma-restore ${version}\n` });
  });

  it('names every command, and the exit statuses', async () => {
    const { status, text, stderr } = await bench.run(['--help']);
    expect(status).toBe(0);
    expect(stderr).toBe('');
    for (const command of COMMANDS) expect(text).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
    expect(text).toContain('Exit status:');
  });

  it('names every variable of the environment that is read', async () => {
    const { text } = await bench.run(['--help']);
    const code = ['environment', 'paint'].map((name) => readFileSync(`src/cli/${name}.ts`, 'utf8')).join();
    const read = new Set([...code.matchAll(/variables\.([A-Z_]+)/g)].map(([, name]) => name));
    expect(read.size).toBeGreaterThan(5);
    for (const name of read) expect(text).toContain(name);
  });

  it.each(COMMANDS)('%s --help lists the exit statuses and the global options', async (command) => {
    const { status, text } = await bench.run([command, '--help']);
    expect(status).toBe(0);
    for (const code of [0, 1, 2, 3, 4, 5, 130]) expect(text).toMatch(new RegExp(`^  ${code} `, 'm'));
    expect(text).toContain('--datastore');
  });

  it('vma-restore --help is the help of a restore', async () => {
    const { status, text } = await bench.run(['--help'], { program: 'vma-restore' });
    expect(status).toBe(0);
    expect(text).toContain('--live');
    expect(text).toContain('Exit status:');
  });
});

/** The command that help is offered for. */
function named(words: readonly string[]): string {
  const [command = '', inner = ''] = words;
  if (command === 'job') return `vmar job ${inner}`;
  return COMMANDS.includes(command) ? `vmar ${command}` : 'vmar';
}

describe('wrong usage exits with 2, in two lines at most', () => {
  it.each([
    ['no command', []],
    ['an unknown command', ['lst']],
    ['an unknown option', ['list', '--frobnicate']],
    ['a missing argument', ['show']],
    ['too many arguments', ['show', 'a', 'b']],
    ['an option without its value', ['backup', '100', '--disk']],
    ['an unknown option of an inner command', ['job', 'run', '--frobnicate']],
  ])('%s', async (_, words) => {
    const { status, text, stderr } = await bench.run(words);
    expect(status).toBe(2);
    expect(text).toBe('');
    expect(stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(2);
    expect(stderr).toMatch(/^vmar/);
    expect(stderr).toContain(`See: ${named(words)} --help`);
    expect(await bench.error(words)).toMatchObject({ exit: 2 });
  });

  it('no datastore', async () => {
    const error = await bench.error(['list'], { env: { VMAR_DATASTORE: undefined } });
    expect(error).toMatchObject({ code: 'no-datastore', exit: 2 });
    expect(await bench.error(['list'], { env: { VMAR_DATASTORE: '' } })).toMatchObject({ code: 'no-datastore' });
  });
});

describe('options of all commands', () => {
  it('may stand before or after the command', async () => {
    const env = { VMAR_DATASTORE: undefined };
    const before = await bench.run(['--datastore', bench.store, '--json', 'list'], { env });
    const after = await bench.run(['list', '--datastore', bench.store, '--json'], { env });
    for (const { status, text } of [before, after]) {
      expect(status).toBe(0);
      expect(JSON.parse(text)).toEqual({ backups: [] });
    }
  });

  it('--datastore wins over VMAR_DATASTORE', async () => {
    const env = { VMAR_DATASTORE: bench.path('elsewhere') };
    expect((await bench.run(['list', '--datastore', bench.store], { env })).status).toBe(0);
    expect(await bench.error(['list'], { env })).toMatchObject({ code: 'not-a-datastore', exit: 1 });
  });

  it('stack traces come with --verbose only', async () => {
    const words = ['list', '--datastore', bench.path('elsewhere')];
    expect((await bench.run(words)).stderr).not.toContain('    at ');
    expect((await bench.run(['--verbose', ...words])).stderr).toContain('    at ');
  });

  it('a cache that cannot be made, and a directory that is gone, are told', async () => {
    const env = { VMAR_CACHE_DIR: '/proc/no/cache' };
    expect(await bench.error(['verify'], { env })).toMatchObject({ advice: expect.stringContaining('VMAR_CACHE_DIR') });
    const script = 'cd gone && rmdir ../gone && exec "$0" "$1" init store';
    mkdirSync(bench.path('gone'));
    const { status, stderr } = spawnSync('sh', ['-c', script, process.execPath, VMAR], {
      cwd: bench.directory,
      encoding: 'utf8',
    });
    expect([status, stderr]).toEqual([1, expect.stringContaining('the working directory is not there any more')]);
  });

  it('one error is one or two lines that say what, on what, and what to do', async () => {
    const { stderr } = await bench.run(['list', '--datastore', bench.path('elsewhere')]);
    const lines = stderr.trimEnd().split('\n');
    expect(lines).toHaveLength(2);
    expect(lines[0]).toContain('vmar list: ');
    expect(lines[0]).toContain(bench.path('elsewhere'));
  });
});

describe('help of a command of commands', () => {
  it.each([
    [['help', 'job', 'run'], 'Usage: vmar job run '],
    [['job', 'help', 'run'], 'Usage: vmar job run '],
    [['job', 'run', '--help'], 'Usage: vmar job run '],
    [['help', 'job'], 'Usage: vmar job '],
    [['help', 'backup'], 'Usage: vmar backup '],
    [['help'], 'Usage: vmar [options] COMMAND'],
  ])('%j prints it', async (words, usage) => {
    const { status, text, stderr } = await bench.run(words);
    expect([status, text.slice(0, usage.length), stderr]).toEqual([0, usage, '']);
  });

  it.each([[['help', 'nope']], [['help', 'job', 'nope']], [['job', 'help', 'nope']]])(
    '%j is refused',
    async (words) => {
      expect(await bench.error(words)).toMatchObject({ exit: 2, message: "unknown command 'nope'" });
    },
  );

  it('ends well where nobody reads it to its end', async () => {
    const { child, finished } = bench.start(['--help']);
    child.stdout?.destroy();
    expect(await finished).toMatchObject({ status: 0, stderr: '' });
  });
});

describe('standard output', () => {
  it('that takes nothing is a failure', async () => {
    const { status, stderr } = await bench.run(['list'], { stdout: openSync('/dev/full', 'w') });
    expect(status).toBe(1);
    expect(stderr).toContain('standard output');
  });

  it('list loads no code that compresses, and starts no thread', async () => {
    const report = `data:text/javascript,process.on('exit',()=>{const r=process.report.getReport();
      console.error(JSON.stringify({objects:r.sharedObjects,workers:r.workers.length}))})`;
    const { stderr } = await bench.run(['list'], { nodeArguments: ['--import', report] });
    const { objects, workers } = JSON.parse(stderr);
    expect(objects.filter((name: string) => /zstd/.test(name))).toEqual([]);
    expect(workers).toBe(0);
  });
});
