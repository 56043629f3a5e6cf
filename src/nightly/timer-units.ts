// SPDX-License-Identifier: MIT
// The systemd units of nightly jobs: a service and a timer for each that has a schedule.
//
// Each limit is one that the job can work under, since a limit that breaks a night is worse than none:
// - PrivateTmp is not used: fleecing files in /var/tmp and sockets in /tmp are shared with the guests' QEMU.
// - Sockets of QEMU, libvirt and guest agents can be connected to wherever they lie: a read-only mount does not forbid it.
// - Devices are not restricted: disks are devices. Neither is the network: disks and webhooks may be on it.
// - Hooks, notifications by a command and by mail may do anything, mounting or setgid postdrop: jobs that have them are not
//   confined; only their weight and memory are. Nor are drills, which boot guests.
// - KillMode=process: what the job has started is told to end by the job, in order, and only once. If the job itself is
//   killed, its backups see that and end in order. With "mixed", systemd would kill all that is left as soon as the job has
//   ended, however it ended: the guardian that must continue and thaw a guest, and what hooks mounted by FUSE.
// - OOMPolicy=continue: what runs out of memory for one guest does not end the others.

import { dirname } from 'node:path';
import type { JobConfig, NightlyConfig } from './config.js';
import { nextRun, type Schedule } from './schedule.js';
import { commandWord, unitName, unitWord } from './unit-text.js';

export interface TimerSettings {
  /** What runs vmar: the words before `job run`, absolute paths. */
  readonly program: readonly string[];
  /** Where hosts keep what can be made again. */
  readonly cacheDirectory: string;
  /** Of the user's own systemd, which cannot confine. */
  readonly isUser: boolean;
}

export interface UnitFile {
  readonly name: string;
  readonly content: string;
}

export interface JobUnits {
  readonly job: string;
  readonly service: UnitFile;
  readonly timer: UnitFile;
}

/** What every unit of ours begins with, and the path of the configuration that it is made from. */
const MARK = '# Made by `vmar job install-timers` from ';
const SYSTEM_CACHE = '/var/cache/vmar';
const GIB = 2 ** 30;
/** Jobs of many hosts, or of one, need not begin in the same second. */
const MOST_DELAY_SECONDS = 300;

export function markOf(configFile: string): string {
  return `${MARK}${JSON.stringify(configFile)}.`;
}

/** Units of ours, of this configuration. */
export function isOurs(content: string, configFile: string): boolean {
  return content.split('\n', 1)[0] === markOf(configFile);
}

/** Units of ours, of whatever configuration. */
export function isOfVmar(content: string): boolean {
  return content.startsWith(MARK);
}

/** In the order of the configuration. Jobs without a schedule have none. */
export function timerUnits(config: NightlyConfig, settings: TimerSettings): JobUnits[] {
  return [...config.jobs.values()].flatMap((job) => {
    if (job.schedule === undefined) return [];
    const service = unitName('vmar-job-', job.name, 'service');
    return {
      job: job.name,
      service: { name: service, content: serviceOf(config, job, settings) },
      timer: { name: unitName('vmar-job-', job.name, 'timer'), content: timerOf(config, job, job.schedule) },
    };
  });
}

function lines(config: NightlyConfig, sections: readonly (readonly string[])[]): string {
  const note = '# Change that and run it again: what is changed here is lost then.';
  return `${[markOf(config.file), note, ...sections.flatMap((section) => ['', ...section])].join('\n')}\n`;
}

function timerOf(config: NightlyConfig, job: JobConfig, schedule: Schedule): string {
  return lines(config, [
    ['[Unit]', `Description=Time for vmar's job ${job.name}`],
    [
      '[Timer]',
      `OnCalendar=${schedule.text}`,
      '# A run that the host was off for is made up for.',
      'Persistent=true',
      `RandomizedDelaySec=${delaySeconds(schedule)}`,
    ],
    ['[Install]', 'WantedBy=timers.target'],
  ]);
}

/** A twentieth of the time between two runs at most. */
function delaySeconds(schedule: Schedule): number {
  const first = nextRun(schedule, Date.UTC(2024, 0, 1));
  const seconds = (nextRun(schedule, first) - first) / 1000;
  return Math.min(MOST_DELAY_SECONDS, Math.floor(seconds / 20));
}

function serviceOf(config: NightlyConfig, job: JobConfig, settings: TimerSettings): string {
  const command = [...settings.program, 'job', 'run', job.name, '--config-file', config.file];
  const mounts = datastoresOf(config, job).map(unitWord).join(' ');
  const isDefaultCache = !settings.isUser && settings.cacheDirectory === SYSTEM_CACHE;
  return lines(config, [
    [
      '[Unit]',
      `Description=vmar's job ${job.name}`,
      '# An unmounted directory is no datastore.',
      `RequiresMountsFor=${mounts}`,
      ...(settings.isUser ? [] : ['Wants=network-online.target', 'After=network-online.target']),
    ],
    [
      '[Service]',
      'Type=oneshot',
      `ExecStart=${command.map(commandWord).join(' ')}`,
      ...(isDefaultCache
        ? ['CacheDirectory=vmar', 'CacheDirectoryMode=0700']
        : [`Environment=${unitWord(`VMAR_CACHE_DIR=${settings.cacheDirectory}`)}`]),
      'KillMode=process',
      'TimeoutStopSec=5min',
      'OOMPolicy=continue',
      'Nice=10',
      'IOSchedulingClass=best-effort',
      'IOSchedulingPriority=7',
      ...memoryLines(job),
      'UMask=0077',
      ...confinement(config, job, settings),
    ],
  ]);
}

/** gc needs what the number of chunks asks for, and a drill what its guest does. */
function memoryLines(job: JobConfig): string[] {
  if (job.kind === 'drill') return [];
  const collects = job.kind === 'gc' || ((job.kind === 'backup' || job.kind === 'prune') && job.gc !== undefined);
  if (collects) return ['MemoryMax=50%'];
  const parallel = job.kind === 'backup' ? job.parallel : 1;
  return [`MemoryMax=${(1 + parallel) * GIB}`];
}

function confinement(config: NightlyConfig, job: JobConfig, { isUser, cacheDirectory }: TimerSettings): string[] {
  if (isUser) return ['NoNewPrivileges=yes'];
  const why = whyUnconfined(job);
  if (why !== undefined) return [`# Not confined, for the sake of its ${why}.`];
  const writable = [...datastoresOf(config, job), cacheDirectory, ...fleeceDirectories(config), '/tmp', '/var/tmp'];
  if (config.log?.to.kind === 'file') writable.push(dirname(config.log.to.path));
  return [
    'NoNewPrivileges=yes',
    'ProtectSystem=strict',
    '# One that is not there does not keep the job from saying so.',
    `ReadWritePaths=${[...new Set(writable)].map((path) => unitWord(`-${path}`)).join(' ')}`,
    'ProtectKernelTunables=yes',
    'ProtectKernelModules=yes',
    'ProtectKernelLogs=yes',
    'ProtectControlGroups=yes',
    'ProtectHostname=yes',
    'LockPersonality=yes',
    'RestrictRealtime=yes',
    'RestrictSUIDSGID=yes',
    'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
    'SystemCallArchitectures=native',
  ];
}

/** What of the job runs programs that nobody can know. */
function whyUnconfined({ kind, hooks, notify }: JobConfig): string | undefined {
  if (kind === 'drill') return 'drills, which boot guests';
  if (Object.keys(hooks.commands).length > 0) return 'hooks';
  if (notify.when === 'never') return undefined;
  if (notify.command !== undefined) return 'notification by a command';
  return notify.mail === undefined ? undefined : 'notification by mail';
}

function datastoresOf({ datastores }: NightlyConfig, job: JobConfig): string[] {
  const names = job.kind === 'copy' ? [job.from, job.to] : [job.datastore];
  return names.flatMap((name) => datastores.get(name)?.path ?? []);
}

/** Where guests put aside what they change meanwhile; of a path with "*" what is above it. */
function fleeceDirectories({ guests }: NightlyConfig): string[] {
  return [...guests.values()].flatMap(({ source }) => {
    if (source.kind === 'images' || source.fleece === undefined) return [];
    const star = source.fleece.indexOf('*');
    return [star < 0 ? source.fleece : dirname(`${source.fleece.slice(0, star)}x`)];
  });
}
