// SPDX-License-Identifier: MIT
// The programs that the benchmark compares. Each gives the commands of its steps, for a fresh repository in `home`;
// `disk.raw` in the images' night1/ and night2/ is what they back up, and restore as `home`/out/disk.raw.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const inProject = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const VMAR = inProject('dist/bundle/cli/vmar.js');
const BOUND_LOOP = inProject('test/bench/bound-loop.mjs');

/** What a command prints, or undefined where it is not installed. */
export function outputOf(command, ...args) {
  const { status, stdout, error } = spawnSync(command, args, { encoding: 'utf8' });
  return error === undefined && status === 0 ? stdout : undefined;
}

function vmar() {
  const run = (...args) => [[process.execPath, VMAR, ...args]];
  return {
    name: 'vmar',
    environment: (home) => ({ VMAR_DATASTORE: `${home}/repository`, VMAR_CACHE_DIR: `${home}/cache` }),
    prepare: (home) => run('init', `${home}/repository`),
    full: () => run('--json', '--quiet', 'backup', '100', '--disk', 'disk=disk.raw'),
    next: () => run('--json', '--quiet', 'backup', '100', '--disk', 'disk=disk.raw'),
    restore: (home) => run('--quiet', 'restore', '100/latest', '--disk', `disk=${home}/out/disk.raw`),
    verify: () => run('--quiet', 'verify'),
    /** The seconds that the program itself counted, where it does. */
    ownSeconds: (stdout) => JSON.parse(stdout).seconds,
  };
}

function borg() {
  const create = (home, night, options) => [
    [
      'borg',
      'create',
      '-C',
      'zstd,1',
      '--chunker-params',
      'fixed,1048576',
      ...options,
      `${home}/repository::${night}`,
      'disk.raw',
    ],
  ];
  const plain = {
    name: 'borg',
    environment: (home) => ({
      BORG_BASE_DIR: `${home}/base`,
      BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
      BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes',
    }),
    prepare: (home) => [['borg', 'init', '-e', 'none', `${home}/repository`]],
    full: (home) => create(home, 'night1', []),
    next: (home) => create(home, 'night2', []),
    restore: (home) => [
      ['borg', 'extract', '--sparse', `${home}/repository::night2`],
      ['sync', `${home}/out/disk.raw`],
    ],
    verify: (home) => [['borg', 'check', '--verify-data', `${home}/repository`]],
  };
  const sparse = {
    name: 'borg --sparse',
    environment: plain.environment,
    prepare: plain.prepare,
    full: (home) => create(home, 'night1', ['--sparse']),
    next: (home) => create(home, 'night2', ['--sparse']),
  };
  return [plain, sparse];
}

function restic() {
  const fastest = /\bfastest\b/.test(outputOf('restic', 'backup', '--help') ?? '') ? 'fastest' : 'auto';
  const sparse = /--sparse\b/.test(outputOf('restic', 'restore', '--help') ?? '') ? ['--sparse'] : [];
  const run = (home, ...args) => ['restic', '-q', '-r', `${home}/repository`, ...args];
  return {
    name: 'restic',
    note: `--compression ${fastest}; always encrypts${sparse.length === 0 ? '; this version restores no sparse files' : ''}`,
    environment: (home) => ({ RESTIC_PASSWORD: 'bench', RESTIC_CACHE_DIR: `${home}/cache` }),
    prepare: (home) => [run(home, 'init')],
    full: (home) => [run(home, 'backup', '--compression', fastest, 'disk.raw')],
    next: (home) => [run(home, 'backup', '--compression', fastest, 'disk.raw')],
    restore: (home) => [
      run(home, 'restore', 'latest', '--target', `${home}/out`, ...sparse),
      ['sync', `${home}/out/disk.raw`],
    ],
    verify: (home) => [run(home, 'check', '--read-data')],
  };
}

function zstd() {
  return {
    name: 'zstd -1 -T0',
    environment: () => ({}),
    full: (home) => [
      ['zstd', '-1', '-T0', '-q', '-f', 'disk.raw', '-o', `${home}/disk.zst`],
      ['sync', `${home}/disk.zst`],
    ],
  };
}

function boundLoop() {
  return {
    name: 'bound loop',
    environment: () => ({}),
    full: () => [[process.execPath, BOUND_LOOP, 'disk.raw']],
    ownSeconds: (stdout) => JSON.parse(stdout).seconds,
  };
}

/** All contenders that are installed here. */
export function contenders() {
  const all = [boundLoop(), vmar(), zstd()];
  if (outputOf('borg', '--version') !== undefined) all.push(...borg());
  if (outputOf('restic', 'version') !== undefined) all.push(restic());
  return all;
}
