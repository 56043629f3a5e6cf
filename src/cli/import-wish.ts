// SPDX-License-Identifier: MIT
// What the arguments of an import ask for: which files, in which order.

import { type Dirent, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isatty } from 'node:tty';
import { MAX_TIME_SECONDS } from '../../formats/vmar/names.js';
import type { ByteSource } from '../archive/import/open-bytes.js';
import { parseVzdumpName } from '../archive/import/vzdump-name.js';
import { NotFoundError, systemErrorCode, UsageError } from '../base/errors.js';
import { type GuestRef, requireGuest } from '../store/backup-id.js';
import { parseCount, parseWait, parseWorkers } from './parse-count.js';

export interface ImportFlags {
  readonly guest?: string;
  readonly time?: string;
  readonly level?: string;
  readonly wait?: string | true;
  readonly workers?: string;
}

export interface ImportWish {
  readonly sources: readonly ByteSource[];
  /** Of all files whose size is known. */
  readonly totalBytes: number;
  readonly guest?: GuestRef;
  readonly timeSeconds?: number;
  readonly level: number;
  readonly waitSeconds: number;
  readonly workers?: number;
}

const IMPORTED = /\.(vma(\.zst|\.gz|\.lzo)?|vmar|vmar\.tar)$/;
const DEFAULT_LEVEL = 1;
const MOST_LEVEL = 22;

export function parseImport(words: readonly string[], flags: ImportFlags): ImportWish {
  if (words.filter((word) => word === '-').length > 1) {
    throw new UsageError('duplicate', 'standard input can be read only once', { object: '-' });
  }
  const found = words.flatMap((word) => (word === '-' ? [standardInput()] : filesAt(word)));
  const sources = found.map(({ source }) => source);
  if (sources.length > 1 && flags.time !== undefined) {
    throw new UsageError('one-time', '--time makes sense only for one file', { object: `--time ${flags.time}` });
  }
  return {
    sources,
    totalBytes: found.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    ...(flags.guest === undefined ? {} : { guest: requireGuest(flags.guest) }),
    ...(flags.time === undefined ? {} : { timeSeconds: parseCount(flags.time, '--time', 0, MAX_TIME_SECONDS) }),
    level: flags.level === undefined ? DEFAULT_LEVEL : parseCount(flags.level, '--level', 1, MOST_LEVEL),
    waitSeconds: parseWait(flags.wait),
    ...parseWorkers(flags.workers),
  };
}

interface Found {
  readonly source: ByteSource;
  /** 0 where nobody can know. */
  readonly sizeBytes: number;
}

function standardInput(): Found {
  if (!isatty(0)) return { source: { fd: 0, name: '-' }, sizeBytes: 0 };
  throw new UsageError('terminal', 'an archive is not read from a terminal', {
    object: '-',
    advice: 'Send it a file or the output of another program.',
  });
}

/** A file as it is; of a directory all files that look like archives, each guest's oldest first. */
function filesAt(path: string): Found[] {
  const stat = statOrNotFound(path);
  if (!stat.isDirectory()) return [{ source: path, sizeBytes: stat.isFile() ? stat.size : 0 }];
  const names = readdirSync(path, { withFileTypes: true })
    .filter(isArchive)
    .map((entry) => entry.name);
  if (names.length === 0) {
    throw new NotFoundError('no-archives', 'there are no archives in the directory', {
      object: path,
      expected: 'names that end in .vma, .vma.zst, .vma.gz, .vma.lzo, .vmar or .vmar.tar',
    });
  }
  return names.sort(byGuestAndTime).map((name) => {
    const file = join(path, name);
    return { source: file, sizeBytes: statOrNotFound(file).size };
  });
}

function isArchive(entry: Dirent): boolean {
  return !entry.isDirectory() && IMPORTED.test(entry.name);
}

function byGuestAndTime(a: string, b: string): number {
  const [left, right] = [parseVzdumpName(a), parseVzdumpName(b)];
  if (left !== undefined && right !== undefined) {
    const byGuest = Number(left.guestId) - Number(right.guestId);
    if (byGuest !== 0 || left.timeSeconds !== right.timeSeconds) return byGuest || left.timeSeconds - right.timeSeconds;
  }
  return basename(a) < basename(b) ? -1 : 1;
}

function statOrNotFound(path: string) {
  try {
    return statSync(path);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new NotFoundError('no-such-file', 'no such file', { object: path, cause: error });
  }
}
