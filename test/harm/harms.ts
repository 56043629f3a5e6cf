// SPDX-License-Identifier: MIT
// What can happen to a file: bits flip, ends are cut, others are put in its place.

import { execFileSync, spawn } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import type { Random } from '../base/random.js';

export interface Harm {
  readonly what: string;
  /** Bytes that count are other ones now, for sure. */
  readonly isFlip: boolean;
  /** Ends what goes on with the file. */
  stop(): void;
}

type Do = (path: string, random: Random, others: readonly string[]) => (() => void) | undefined;

/** The file is gone, and something else has its name. */
function instead(make: (path: string) => void): Do {
  return (path) => {
    rmSync(path);
    make(path);
    return undefined;
  };
}

const KINDS: Readonly<Record<string, Do>> = {
  flip: (path, random) => {
    const bytes = readFileSync(path);
    for (let n = random.integer(1, 3); n > 0; n--)
      bytes[random.integer(0, bytes.length - 1)]! ^= 1 << random.integer(0, 7);
    writeFileSync(path, bytes);
    return undefined;
  },
  cut: (path, random) => {
    truncateSync(path, random.integer(0, statSync(path).size - 1));
    return undefined;
  },
  empty: (path) => {
    truncateSync(path, 0);
    return undefined;
  },
  zero: (path, random) => {
    const bytes = readFileSync(path);
    const from = random.integer(0, bytes.length - 1);
    bytes.fill(0, from, from + random.integer(1, 8192));
    writeFileSync(path, bytes);
    return undefined;
  },
  longer: (path, random) => {
    appendFileSync(path, random.bytes(random.integer(1, 5000)));
    return undefined;
  },
  noise: (path, random) => {
    writeFileSync(path, random.bytes(statSync(path).size));
    return undefined;
  },
  swap: (path, random, others) => {
    const other = others[random.integer(0, others.length - 1)] ?? path;
    renameSync(path, `${path}.swap`);
    renameSync(other === path ? `${path}.swap` : other, path);
    if (other !== path) renameSync(`${path}.swap`, other);
    return undefined;
  },
  duplicate: (path, random, others) => {
    const other = others[random.integer(0, others.length - 1)] ?? path;
    if (other !== path) copyFileSync(path, other);
    return undefined;
  },
  delete: (path) => {
    rmSync(path);
    return undefined;
  },
  rename: (path) => {
    renameSync(path, `${path}.bak`);
    return undefined;
  },
  directory: instead((path) => mkdirSync(path)),
  'symlink away': (path) => {
    renameSync(path, `${path}.moved`);
    symlinkSync(`${basename(path)}.moved`, path);
    return undefined;
  },
  'dangling symlink': instead((path) => symlinkSync('/nowhere/at/all', path)),
  'symlink loop': instead((path) => symlinkSync(path, path)),
  fifo: instead((path) => execFileSync('mkfifo', [path])),
  socket: (path) => {
    rmSync(path);
    execFileSync('python3', [
      '-c',
      'import os,socket,sys\nos.chdir(os.path.dirname(sys.argv[1]))\nsocket.socket(socket.AF_UNIX).bind(os.path.basename(sys.argv[1]))',
      path,
    ]);
    return undefined;
  },
  '/dev/zero': instead((path) => symlinkSync('/dev/zero', path)),
  '/dev/full': instead((path) => symlinkSync('/dev/full', path)),
  'huge sparse': (path) => {
    truncateSync(path, 2 ** 40);
    return undefined;
  },
  growing: (path) => {
    const child = spawn('sh', ['-c', 'while :; do head -c 65536 /dev/urandom; sleep 0.02; done >>"$1"', 'sh', path]);
    return () => void child.kill('SIGKILL');
  },
  'hard link': (path) => {
    linkSync(path, `${path}.link`);
    return undefined;
  },
};

export const HARMS = Object.keys(KINDS);

/** Never as it was, or never to be read. */
const FLIPS: ReadonlySet<string> = new Set(['flip', 'cut', 'empty', 'longer', 'noise']);

export function harm(kind: string, path: string, root: string, random: Random, others: readonly string[]): Harm {
  const stop = KINDS[kind]!(path, random, others) ?? (() => {});
  return { what: `${kind}: ${relative(root, path)}`, isFlip: FLIPS.has(kind), stop };
}

/** Puts an older state of a file or of a whole directory back. */
export function putBack(path: string, root: string, oldRoot: string): Harm {
  const old = join(oldRoot, relative(root, path));
  if (existsSync(old)) copyFileSync(old, path);
  return { what: `put back: ${relative(root, path)}`, isFlip: false, stop() {} };
}

/** All files below a directory. */
export function filesBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => statSync(path).size > 0 || path.includes('/locks/'))
    .sort();
}

/** Files of the same directory or kind. */
export function relativesOf(path: string, files: readonly string[]): string[] {
  const kind = (file: string): string =>
    `${basename(dirname(file)).length === 2 ? 'pack' : dirname(file)}${file.slice(file.lastIndexOf('.'))}`;
  return files.filter((file) => file !== path && kind(file) === kind(path));
}
