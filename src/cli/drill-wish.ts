// SPDX-License-Identifier: MIT
// What the flags of a drill ask for.

import { UsageError } from '../base/errors.js';
import { type BootWish, DISK_BUSES } from '../live/drill/boot-drill.js';
import { parseCount, parseWorkers } from './parse-count.js';
import { checkDiskName } from './parse-disk.js';
import { parseDuration } from './parse-duration.js';
import { refuseDuplicates } from './parse-pair.js';
import { parseSize } from './parse-size.js';

export interface DrillFlags {
  readonly fsck?: boolean;
  readonly boot?: boolean;
  readonly until?: string;
  readonly disk?: readonly string[];
  readonly timeout?: string;
  readonly memory?: string;
  readonly cpus?: string;
  readonly bus?: string;
  readonly firmware?: string;
  readonly allowMount?: boolean;
  readonly workDir?: string;
  /** True unless --no-report was given. */
  readonly report?: boolean;
  readonly workers?: string;
}

export type DrillKind =
  | { readonly kind: 'fsck'; readonly allowMount: boolean; readonly timeoutSeconds: number }
  | { readonly kind: 'boot'; readonly boot: BootWish };

export interface DrillWish {
  readonly drill: DrillKind;
  /** Empty: all. */
  readonly disks: readonly string[];
  readonly workDirectory: string | undefined;
  readonly isReported: boolean;
  readonly workers?: number;
}

const BOOT_SECONDS = 600;
const DEFAULT_MEMORY = 1 << 30;
const DEFAULT_PROCESSORS = 2;

export function parseDrill(flags: DrillFlags): DrillWish {
  const disks = flags.disk ?? [];
  for (const disk of disks) checkDiskName(disk, '--disk');
  refuseDuplicates(disks, '--disk', 'disk');
  return {
    ...{ drill: parseKind(flags), disks, workDirectory: flags.workDir, isReported: flags.report !== false },
    ...parseWorkers(flags.workers),
  };
}

function parseKind(flags: DrillFlags): DrillKind {
  const { fsck = false, boot = false, timeout } = flags;
  if (fsck === boot) {
    throw new UsageError('which-drill', fsck ? 'a drill is of one kind' : 'no kind of drill was named', {
      advice: 'Give --fsck, or --boot with --until TEXT.',
    });
  }
  const timeoutSeconds = timeout === undefined ? undefined : parseDuration(timeout, '--timeout');
  if (boot) return { kind: 'boot', boot: parseBoot(flags, timeoutSeconds ?? BOOT_SECONDS) };
  const stray = (['until', 'memory', 'cpus', 'bus', 'firmware'] as const).find((name) => flags[name] !== undefined);
  if (stray !== undefined) throw new UsageError('not-with-fsck', 'this is for --boot', { object: `--${stray}` });
  return {
    kind: 'fsck',
    allowMount: flags.allowMount === true,
    timeoutSeconds: timeoutSeconds ?? Number.POSITIVE_INFINITY,
  };
}

function parseBoot({ until, memory, cpus, bus, firmware, allowMount }: DrillFlags, timeoutSeconds: number): BootWish {
  if (until === undefined || until === '') {
    throw new UsageError('no-text', 'what is to come up on the console was not told', {
      advice: 'Give --until TEXT, such as --until "login:".',
    });
  }
  if (allowMount === true) throw new UsageError('not-with-boot', 'this is for --fsck', { object: '--allow-mount' });
  const found = DISK_BUSES.find((each) => each === bus);
  if (bus !== undefined && found === undefined) {
    throw new UsageError('bad-bus', 'there is no such bus', {
      object: `--bus ${bus}`,
      expected: DISK_BUSES.join(', '),
    });
  }
  return {
    ...{ until, timeoutSeconds, bus: found, firmware },
    memoryBytes: memory === undefined ? DEFAULT_MEMORY : parseSize(memory, '--memory'),
    processors: cpus === undefined ? DEFAULT_PROCESSORS : parseCount(cpus, '--cpus', 1, 64),
  };
}
