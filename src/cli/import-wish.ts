// SPDX-License-Identifier: MIT
// What the arguments of an import ask for: which files, in which order.

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_TIME_SECONDS } from '../../formats/vmar/names.js';
import type { ByteSource } from '../archive/import/open-bytes.js';
import { parseVzdumpName } from '../archive/import/vzdump-name.js';
import { NotFoundError, systemErrorCode, UsageError } from '../base/errors.js';
import { type GuestRef, requireGuest } from '../store/backup-id.js';
import { counted } from './human.js';
import { parseCount, parseWait, parseWorkers } from './parse-count.js';
import { isStandardInput, standardInput } from './standard-input.js';

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
  /** Archives of containers that lie in a directory; they are none of ours. */
  readonly containers: readonly string[];
  /** What is called as an archive in a directory and is a FIFO or a device: whoever opens it may wait for ever. */
  readonly notFiles: readonly string[];
}

const IMPORTED = /\.(vma|vmar|vmar\.tar)(\.zst|\.gz|\.lzo)?$/i;
const OF_CONTAINER = /^vzdump-(lxc|openvz)-.*\.(tar|tgz)(\.[a-z0-9]+)?$/;
const DEFAULT_LEVEL = 1;
const MOST_LEVEL = 22;

export function parseImport(words: readonly string[], flags: ImportFlags): ImportWish {
  if (words.filter(isStandardInput).length > 1) {
    throw new UsageError('duplicate', 'standard input can be read only once', { object: '-' });
  }
  const leftOut: LeftOut = { containers: [], notFiles: [] };
  const found = words.flatMap((word): Found[] => {
    if (isStandardInput(word)) return [{ source: standardInput(), sizeBytes: 0 }];
    return filesAt(word, leftOut);
  });
  const sources = found.map(({ source }) => source);
  if (sources.length > 1 && flags.time !== undefined) {
    throw new UsageError('one-time', '--time makes sense only for one file', { object: `--time ${flags.time}` });
  }
  return {
    ...{ sources, ...leftOut },
    totalBytes: found.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    ...(flags.guest === undefined ? {} : { guest: requireGuest(flags.guest) }),
    ...(flags.time === undefined ? {} : { timeSeconds: parseCount(flags.time, '--time', 0, MAX_TIME_SECONDS) }),
    level: flags.level === undefined ? DEFAULT_LEVEL : parseCount(flags.level, '--level', 1, MOST_LEVEL),
    waitSeconds: parseWait(flags.wait),
    ...parseWorkers(flags.workers),
  };
}

interface LeftOut {
  readonly containers: string[];
  readonly notFiles: string[];
}

interface Found {
  readonly source: ByteSource;
  /** 0 where nobody can know. */
  readonly sizeBytes: number;
}

/** A file as it is; of a directory all files that look like archives, each guest's oldest first. */
function filesAt(path: string, { containers, notFiles }: LeftOut): Found[] {
  const stat = statOrNotFound(path);
  if (!stat.isDirectory()) return [{ source: path, sizeBytes: stat.isFile() ? stat.size : 0 }];
  const files = readdirSync(path, { withFileTypes: true }).filter((entry) => !entry.isDirectory());
  const names = files.map((entry) => entry.name);
  containers.push(...names.filter((name) => OF_CONTAINER.test(name)).map((name) => join(path, name)));
  const archives = names.filter((name) => IMPORTED.test(name));
  if (archives.length === 0) throw noArchives(path, names);
  return inOrder(archives).flatMap((name) => {
    const file = join(path, name);
    const stat = statIfThere(file);
    if (stat === undefined || stat.isFile() || stat.isDirectory())
      return [{ source: file, sizeBytes: stat?.size ?? 0 }];
    notFiles.push(file);
    return [];
  });
}

function noArchives(path: string, names: readonly string[]): NotFoundError {
  const containers = names.filter((name) => OF_CONTAINER.test(name)).length;
  return new NotFoundError('no-archives', 'there are no archives in the directory', {
    object: path,
    expected: 'names that end in .vma, .vmar or .vmar.tar, compressed ones also in .zst, .gz or .lzo',
    ...(containers === 0 ? {} : { found: `${counted(containers, 'archive')} of containers, which vmar does not keep` }),
  });
}

/** By guest and time; those whose names do not tell come last, by name. */
function inOrder(names: readonly string[]): string[] {
  const known = names.map((name) => ({ name, named: parseVzdumpName(name) }));
  const compared = known.sort((a, b) => {
    const [left, right] = [a.named, b.named];
    if (left !== undefined && right !== undefined) {
      const byGuest = Number(left.guestId) - Number(right.guestId);
      const order = byGuest || left.timeSeconds - right.timeSeconds;
      if (order !== 0) return order;
    } else if (left !== right) return left === undefined ? 1 : -1;
    return a.name < b.name ? -1 : 1;
  });
  return compared.map(({ name }) => name);
}

/** What has gone since, or is a link to nowhere, is told when its turn comes. */
function statIfThere(file: string) {
  try {
    return statSync(file);
  } catch {
    return undefined;
  }
}

function statOrNotFound(path: string) {
  try {
    return statSync(path);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new NotFoundError('no-such-file', 'no such file', { object: path, cause: error });
  }
}
