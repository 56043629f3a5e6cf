// SPDX-License-Identifier: MIT
// What vmar is called with for each piece of work: words of its own command line, which it checks as any other.

import { KEEP_RULES } from '../store/prune-periods.js';
import type { Keep } from '../store/prune-plan.js';
import type {
  BackupJobConfig,
  BootOptions,
  CopyJobConfig,
  DrillJobConfig,
  GcOptions,
  GuestConfig,
  VerifyJobConfig,
} from './config.js';

/** @param minFreeBytes what must stay free of the datastore's file system; 0 is no limit */
export function backupWords(job: BackupJobConfig, guest: GuestConfig, minFreeBytes = job.minFreeBytes): string[] {
  const { source, configs, blobs, bytesPerSecond } = guest;
  return [
    ...['backup', guest.name],
    ...sourceWords(source),
    ...configs.flatMap((path) => ['--config', path]),
    ...[...blobs].flatMap(([name, path]) => ['--blob', `${name}=${path}`]),
    ...(bytesPerSecond === 0 ? [] : ['--speed', String(bytesPerSecond)]),
    ...(minFreeBytes === 0 ? [] : ['--min-free', String(minFreeBytes)]),
    ...(job.level === undefined ? [] : ['--level', String(job.level)]),
    ...[...job.labels].flatMap(([key, value]) => ['--label', `${key}=${value}`]),
  ];
}

function sourceWords(source: GuestConfig['source']): string[] {
  if (source.kind === 'images') {
    const disks = [...source.disks].flatMap(([name, path]) => ['--disk', `${name}=${path}`]);
    return source.forceShare ? [...disks, '--force-share'] : disks;
  }
  const { agent, fleece, include, exclude, paranoid } = source;
  return [
    ...(source.kind === 'qmp' ? ['--qmp', source.socket] : ['--libvirt', source.domain]),
    ...(agent === undefined ? [] : ['--agent', agent]),
    ...(fleece === undefined ? [] : ['--fleece', fleece]),
    ...include.flatMap((name) => ['--include', name]),
    ...exclude.flatMap((name) => ['--exclude', name]),
    ...(paranoid ? ['--paranoid'] : []),
  ];
}

export function pruneWords(guests: readonly string[], keep: Keep): string[] {
  return ['prune', ...guests, ...keepWords(keep)];
}

function keepWords(keep: Keep): string[] {
  if (keep === 'all') return ['--keep-all'];
  return KEEP_RULES.flatMap((rule) => (keep[rule] === undefined ? [] : [`--keep-${rule}`, String(keep[rule])]));
}

export function gcWords({ maxUnusedPercent }: GcOptions): string[] {
  return ['gc', ...(maxUnusedPercent === undefined ? [] : ['--max-unused', `${maxUnusedPercent}%`])];
}

export function verifyWords({ olderThanMillis, budgetMillis, quick }: VerifyJobConfig): string[] {
  return [
    'verify',
    ...(quick ? ['--quick'] : []),
    ...(olderThanMillis === undefined ? [] : ['--older-than', seconds(olderThanMillis)]),
    ...(budgetMillis === undefined ? [] : ['--budget', seconds(budgetMillis)]),
  ];
}

function seconds(millis: number): string {
  return `${Math.ceil(millis / 1000)}s`;
}

/** Without guests it copies all that there is. */
export function copyWords({ minFreeBytes }: CopyJobConfig, toPath: string, guests: readonly string[]): string[] {
  return [
    ...['copy', ...(guests.length === 0 ? ['--all'] : guests.flatMap((guest) => ['--guest', guest])), '--to', toPath],
    ...(minFreeBytes === 0 ? [] : ['--min-free', String(minFreeBytes)]),
  ];
}

export function drillWords({ drill, timeoutMillis }: DrillJobConfig, guest: string): string[] {
  const { how, disks, workDirectory } = drill;
  return [
    // The job keeps one itself.
    ...['drill', guest, '--no-report'],
    ...(how.kind === 'boot' ? bootWords(how) : ['--fsck', ...(how.allowMount ? ['--allow-mount'] : [])]),
    ...disks.flatMap((name) => ['--disk', name]),
    ...(workDirectory === undefined ? [] : ['--work-dir', workDirectory]),
    ...(timeoutMillis === undefined ? [] : ['--timeout', seconds(timeoutMillis)]),
  ];
}

function bootWords({ until, memoryBytes, processors, bus, firmware }: BootOptions): string[] {
  return [
    ...['--boot', '--until', until],
    ...(memoryBytes === undefined ? [] : ['--memory', String(memoryBytes)]),
    ...(processors === undefined ? [] : ['--cpus', String(processors)]),
    ...(bus === undefined ? [] : ['--bus', bus]),
    ...(firmware === undefined ? [] : ['--firmware', firmware]),
  ];
}
