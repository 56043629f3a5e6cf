// SPDX-License-Identifier: MIT
// Installs the units of nightly jobs into a directory of systemd, and takes them out again.
//
// Guarantee: files that vmar did not make are never changed or removed; if one is in the way, nothing is changed at all.

import { lstat, readdir, readFile, readlink, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { FailedError } from '../base/errors.js';
import { storeFailure, systemCode } from '../store/fs.js';
import { replaceFile } from './replace-file.js';
import { isOfVmar, isOurs, type UnitFile } from './timer-units.js';

export interface TimerChanges {
  readonly written: readonly string[];
  readonly unchanged: readonly string[];
  /** Of jobs that the configuration has no more, or no schedule for. */
  readonly removed: readonly string[];
}

/** What is to be done, each by the name of its file. */
export interface TimerPlan extends TimerChanges {
  readonly directory: string;
  readonly files: readonly UnitFile[];
}

const READABLE_BY_ALL = 0o644;
const UNIT = /^vmar-job-.+\.(?:service|timer)$/;
const MOST_UNIT_BYTES = 1 << 20;

/**
 * Looks at what is there. `files` are all units of the configuration; none of them: everything is taken out.
 * @throws FailedError if a file that vmar did not make is in the way, or one of another configuration
 */
export async function planTimers(
  directory: string,
  configFile: string,
  files: readonly UnitFile[],
): Promise<TimerPlan> {
  const written: string[] = [];
  const unchanged: string[] = [];
  for (const { name, content } of files) {
    const path = join(directory, name);
    const found = await readUnit(path);
    if (found === content) unchanged.push(name);
    else if (found === undefined || isOurs(found, configFile)) written.push(name);
    else throw inTheWay(path, found);
  }
  const wanted = new Set(files.map(({ name }) => name));
  const removed: string[] = [];
  for (const name of (await namesIn(directory)).sort()) {
    if (wanted.has(name) || !UNIT.test(name)) continue;
    const found = await readUnit(join(directory, name));
    if (found !== undefined && isOurs(found, configFile)) removed.push(name);
  }
  return { directory, files, written, unchanged, removed };
}

/** Does it; a unit is at every moment as it was or as it is to be. What enables a removed timer goes too. @throws FailedError */
export async function carryOut({ directory, files, written, removed }: TimerPlan): Promise<void> {
  for (const { name, content } of files) {
    if (written.includes(name)) await replaceFile(join(directory, name), content, READABLE_BY_ALL);
  }
  for (const name of removed) {
    await remove(join(directory, name));
    const link = join(directory, 'timers.target.wants', name);
    if (await leadsTo(link, join(directory, name))) await remove(link);
  }
}

async function remove(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw storeFailure(error, 'remove the file', path);
  }
}

async function leadsTo(link: string, path: string): Promise<boolean> {
  const target = await readlink(link).catch(() => undefined);
  return target !== undefined && resolve(dirname(link), target) === path;
}

/** undefined if there is none; "" for what is no plain file, or too large to be a unit. */
async function readUnit(path: string): Promise<string | undefined> {
  try {
    const stat = await lstat(path);
    return stat.isFile() && stat.size <= MOST_UNIT_BYTES ? await readFile(path, 'utf8') : '';
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw storeFailure(error, 'read the file', path);
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    throw storeFailure(error, 'list the directory', directory);
  }
}

function inTheWay(path: string, found: string): FailedError {
  return isOfVmar(found)
    ? new FailedError('other-timers', 'the unit is of another configuration of vmar', {
        object: path,
        found: found.split('\n', 1)[0] ?? '',
        advice: 'Give the job another name, or take the others out with --uninstall and their --config-file.',
      })
    : new FailedError('not-ours', 'there is a file that vmar did not make', {
        object: path,
        advice: 'Move it away, or give the job another name.',
      });
}
