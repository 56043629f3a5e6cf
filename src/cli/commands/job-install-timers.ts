// SPDX-License-Identifier: MIT
// vmar job install-timers

import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import type { NightlyConfig } from '../../nightly/config.js';
import { readConfig } from '../../nightly/config-file.js';
import { type JobUnits, timerUnits } from '../../nightly/timer-units.js';
import { carryOut, planTimers, type TimerPlan } from '../../nightly/timers.js';
import type { Context } from '../context.js';
import { type ConfigFlags, configPath } from '../job-config.js';

export interface TimersFlags extends ConfigFlags {
  readonly directory?: string;
  readonly user?: boolean;
  readonly dryRun?: boolean;
  readonly uninstall?: boolean;
}

const SYSTEM_DIRECTORY = '/etc/systemd/system';
const USER_DIRECTORY = '.config/systemd/user';

export async function run(context: Context, _args: undefined, flags: TimersFlags): Promise<ExitStatus> {
  const file = resolve(configPath(context, flags));
  const isUser = flags.user === true;
  const directory = resolve(flags.directory ?? (isUser ? join(homedir(), USER_DIRECTORY) : SYSTEM_DIRECTORY));
  const isUninstall = flags.uninstall === true;
  const isDryRun = flags.dryRun === true;
  // What is taken out needs no configuration any more.
  const config = isUninstall ? undefined : await readConfig(file);
  const jobs = config === undefined ? [] : unitsOf(context, config, isUser);
  if (isUser && flags.directory === undefined && !isDryRun) await mkdir(directory, { recursive: true });
  const plan = await planTimers(
    directory,
    file,
    jobs.flatMap(({ service, timer }) => [service, timer]),
  );
  if (!isDryRun) await carryOut(plan);
  const next = commands(plan, jobs, isUser);
  context.output.summary(
    () => document(plan, next, isDryRun),
    () => text(plan, config, next, isDryRun),
  );
  return EXIT.done;
}

function unitsOf({ cacheDirectory }: Context, config: NightlyConfig, isUser: boolean): JobUnits[] {
  const program = [process.execPath, ...process.execArgv, resolve(process.argv[1] ?? '')];
  return timerUnits(config, { program, cacheDirectory: resolve(cacheDirectory), isUser });
}

/** What is to be done now by hand: systemd is not told by us. */
function commands({ written, removed }: TimerPlan, jobs: readonly JobUnits[], isUser: boolean): string[] {
  const systemctl = isUser ? 'systemctl --user' : 'systemctl';
  const isTimer = (name: string): boolean => name.endsWith('.timer');
  const gone = removed.filter(isTimer).map(shellWord);
  const timers = jobs.map(({ timer }) => shellWord(timer.name));
  return [
    ...(gone.length === 0 ? [] : [`${systemctl} stop ${gone.join(' ')}`]),
    ...(written.length + removed.length === 0 ? [] : [`${systemctl} daemon-reload`]),
    ...(timers.length === 0 ? [] : [`${systemctl} enable --now ${timers.join(' ')}`]),
  ];
}

function shellWord(word: string): string {
  return /^[A-Za-z0-9:_.-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function document({ directory, written, unchanged, removed }: TimerPlan, next: readonly string[], dryRun: boolean) {
  return { dryRun, directory, written, unchanged, removed, next };
}

function text(plan: TimerPlan, config: NightlyConfig | undefined, next: readonly string[], isDryRun: boolean): string {
  const { directory, files, written, unchanged, removed } = plan;
  const [wrote, took] = isDryRun ? ['would write', 'would remove'] : ['wrote', 'removed'];
  const byHand = [...(config?.jobs.values() ?? [])].filter(({ schedule }) => schedule === undefined);
  const lines = [
    ...written.map((name) => `${wrote} ${join(directory, name)}`),
    ...unchanged.map((name) => `${join(directory, name)} is as it should be`),
    ...removed.map((name) => `${took} ${join(directory, name)}`),
    ...byHand.map(({ name }) => `${name} has no schedule, and no timer`),
  ];
  if (files.length === 0 && removed.length === 0) lines.push(`there are no timers of vmar in ${directory}`);
  if (isDryRun) for (const { name, content } of files) if (written.includes(name)) lines.push('', `# ${name}`, content);
  if (next.length > 0 && !isDryRun) lines.push('', 'Now run:', ...next.map((command) => `  ${command}`));
  return lines.join('\n');
}
