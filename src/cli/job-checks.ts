// SPDX-License-Identifier: MIT
// Whether what a configuration names is there on this host, and whether vmar takes what its jobs would call it with.

import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemErrorCode, VmarError } from '../base/errors.js';
import { isNbdUri } from '../nbd/client/nbd-uri.js';
import {
  type BackupJobConfig,
  type GuestConfig,
  HOOK_MOMENTS,
  type JobConfig,
  type NightlyConfig,
} from '../nightly/config.js';
import { findJobGuests } from '../nightly/guests.js';
import { openJobStore } from '../nightly/job-store.js';
import { backupWords, drillWords } from '../nightly/words.js';
import { openDatastore } from '../store/datastore.js';
import { type BackupFlags, parseBackup } from './backup-wish.js';
import type { Context } from './context.js';
import { buildProgram, type CommandCall, normalise } from './program.js';
import { describeError } from './render-error.js';

export interface HostProblem {
  /** As in the file: "jobs.nightly". */
  readonly place: string;
  readonly message: string;
}

export async function hostProblems(context: Context, config: NightlyConfig): Promise<readonly HostProblem[]> {
  const problems: HostProblem[] = [...ownership(config.file)];
  for (const datastore of config.datastores.values()) {
    const place = `datastores.${datastore.name}`;
    const open = (path: string) => openDatastore(path, { cacheDir: context.cacheDirectory });
    const message = await problemOf(async () => (await openJobStore(datastore, open)).close());
    const problem = message ?? writeProblem(datastore.path);
    if (problem !== undefined) problems.push({ place, message: problem });
  }
  problems.push(...logProblems(config));
  for (const guest of config.guests.values()) problems.push(...guestProblems(guest));
  for (const job of config.jobs.values()) problems.push(...(await jobProblems(job, config)));
  return problems;
}

/** Who can write to it runs hooks as whoever runs the jobs. */
function ownership(file: string): readonly HostProblem[] {
  const { mode } = statSync(file);
  if ((mode & 0o022) === 0) return [];
  return [{ place: file, message: 'others can write to it, and so run hooks as you: chmod go-w' }];
}

function logProblems({ log }: NightlyConfig): readonly HostProblem[] {
  if (log === undefined || log.to.kind === 'stderr' || existsSync(dirname(log.to.path))) return [];
  return [{ place: 'log', message: `${dirname(log.to.path)} is not there` }];
}

function guestProblems({ name, isPattern, source, configs, blobs }: GuestConfig): readonly HostProblem[] {
  if (isPattern) return [];
  const disks = source.kind === 'images' ? [...source.disks.values()].filter((disk) => !isNbdUri(disk)) : [];
  const sockets = source.kind === 'qmp' ? [source.socket] : [];
  const agent = source.kind === 'images' || source.agent === undefined ? [] : [source.agent];
  const missing = [...disks, ...sockets, ...agent, ...configs, ...blobs.values()].filter((path) => !existsSync(path));
  return missing.map((path) => ({ place: `guests.${name}`, message: `${path} is not there` }));
}

async function jobProblems(job: JobConfig, config: NightlyConfig): Promise<readonly HostProblem[]> {
  const place = `jobs.${job.name}`;
  const messages = [...programProblems(job)];
  if (job.kind === 'backup') messages.push(...(await backupProblems(job, config)));
  if (job.kind === 'drill') messages.push((await problemOf(() => understood(drillWords(job, '100')))) ?? '');
  return messages.filter((message) => message !== '').map((message) => ({ place, message }));
}

async function backupProblems(job: BackupJobConfig, config: NightlyConfig): Promise<readonly string[]> {
  const messages: string[] = [];
  const problem = await problemOf(async () => {
    const { guests, missing } = findJobGuests(config.guests.values(), job.guests);
    for (const { name, error } of missing) messages.push(`${name}: ${error.message}`);
    for (const guest of guests) {
      const message = await problemOf(() => understood(backupWords(job, guest)));
      if (message !== undefined) messages.push(`${guest.name}: ${message}`);
    }
  });
  return problem === undefined ? messages : [problem];
}

function programProblems({ hooks, notify }: JobConfig): readonly string[] {
  const commands = [...HOOK_MOMENTS.map((moment) => hooks.commands[moment]), notify.command];
  const programs = commands.flatMap((command) => (command?.kind === 'words' ? command.words.slice(0, 1) : []));
  if (notify.mail !== undefined) programs.push(notify.mail.sendmail);
  return programs.filter((path) => path.startsWith('/') && !isExecutable(path)).map((path) => `${path} cannot be run`);
}

/** Every run writes at least its report. */
function writeProblem(path: string): string | undefined {
  try {
    accessSync(path, constants.W_OK);
    return undefined;
  } catch (error) {
    const code = systemErrorCode(error);
    return `${path}: it cannot be written to: ${code === 'EROFS' ? 'the file system is read-only' : code}`;
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** As vmar itself would take them, though nothing is run. */
async function understood(words: readonly string[]): Promise<void> {
  let call: CommandCall | undefined;
  const program = buildProgram('vmar', async (given) => {
    call = given;
  });
  await program.parseAsync(normalise(words), { from: 'user' });
  if (call?.name === 'backup') parseBackup(String(call.args), call.flags as BackupFlags);
}

async function problemOf(action: () => Promise<void>): Promise<string | undefined> {
  try {
    await action();
    return undefined;
  } catch (error) {
    if (!(error instanceof VmarError))
      return error instanceof Error ? error.message.replace(/^error: /, '') : String(error);
    const { object, message, expected, found } = describeError(error);
    const facts = [expected === undefined ? '' : `expected ${expected}`, found === undefined ? '' : `found ${found}`];
    const known = facts.filter((fact) => fact !== '').join(', ');
    return `${object === undefined ? '' : `${object}: `}${message}${known === '' ? '' : ` (${known})`}`;
  }
}
