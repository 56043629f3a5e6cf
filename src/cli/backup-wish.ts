// SPDX-License-Identifier: MIT
// What the flags of a backup ask for, checked as far as that goes without opening anything.

import { basename } from 'node:path';
import { UsageError } from '../base/errors.js';
import { type GuestRef, requireGuest } from '../store/backup-id.js';
import { type ExportFlags, type ExportWish, parseExportFlags } from './bitmap-wish.js';
import { type BlobWish, parseBlobs } from './blobs.js';
import { type ArchiveWish, parseArchive } from './export-wish.js';
import { type GuestFlags, type GuestWish, parseGuestFlags } from './guest-wish.js';
import { parseCount, parseWait, parseWorkers } from './parse-count.js';
import { type DiskPair, parseDisks } from './parse-disk.js';
import { parseLabels } from './parse-labels.js';
import { refuseDuplicates } from './parse-pair.js';
import { parseSize } from './parse-size.js';

export interface BackupFlags extends GuestFlags, ExportFlags {
  readonly disk?: readonly string[];
  readonly config?: readonly string[];
  readonly blob?: readonly string[];
  readonly output?: string;
  readonly format?: string;
  readonly speed?: string;
  readonly level?: string;
  readonly time?: string;
  readonly label?: readonly string[];
  readonly wait?: string | true;
  readonly minFree?: string;
  readonly forceShare?: boolean;
  readonly workers?: string;
}

export type BackupTarget = { readonly kind: 'datastore' } | ({ readonly kind: 'archive' } & ArchiveWish);

export interface BackupWish {
  readonly guest: GuestRef;
  readonly disks: readonly DiskPair[];
  readonly configPaths: readonly string[];
  readonly blobs: readonly BlobWish[];
  readonly target: BackupTarget;
  /** 0 is no limit. */
  readonly speedBytesPerSecond: number;
  readonly level: number;
  readonly timeSeconds: number;
  /** Otherwise it was given. */
  readonly isTimeOfClock: boolean;
  readonly labels: ReadonlyMap<string, string>;
  readonly waitSeconds: number;
  /** Of the datastore's file system; 0 is no matter. */
  readonly minFreeBytes: number;
  readonly forceShare: boolean;
  readonly workers?: number;
  readonly exports: ExportWish;
  /** A guest that runs; then `disks` is empty. */
  readonly live?: GuestWish;
}

const DEFAULT_LEVEL = 1;
const MOST_LEVEL = 22;
/** 9999-12-31T23:59:59Z: ids of backups hold no later time. */
const LAST_SECOND = 253402300799;

export function parseBackup(guestText: string, flags: BackupFlags): BackupWish {
  const live = parseGuestFlags(flags);
  const disks = parseDisks(flags.disk ?? [], 'NAME=IMAGE');
  const target = parseTarget(flags.output, flags.format);
  const configNames = (flags.config ?? []).map((path) => basename(path));
  const blobs = parseBlobs(flags.blob ?? []);
  for (const { name } of blobs)
    refuseDuplicates([...configNames.filter((one) => one === name), name], '--blob', 'name');
  const wish = {
    ...{ guest: requireGuest(guestText), disks, target },
    configPaths: flags.config ?? [],
    blobs,
    exports: parseExportFlags(flags, disks, target.kind === 'datastore'),
    speedBytesPerSecond: flags.speed === undefined ? 0 : parseSize(flags.speed, '--speed'),
    level: flags.level === undefined ? DEFAULT_LEVEL : parseCount(flags.level, '--level', 1, MOST_LEVEL),
    timeSeconds:
      flags.time === undefined ? Math.floor(Date.now() / 1000) : parseCount(flags.time, '--time', 0, LAST_SECOND),
    isTimeOfClock: flags.time === undefined,
    labels: parseLabels(flags.label ?? []),
    waitSeconds: parseWait(flags.wait),
    minFreeBytes: flags.minFree === undefined ? 0 : parseSize(flags.minFree, '--min-free'),
    forceShare: flags.forceShare === true,
    ...parseWorkers(flags.workers),
    ...(live === undefined ? {} : { live }),
  };
  if (live !== undefined && (wish.disks.length > 0 || wish.forceShare)) {
    throw new UsageError('disks-and-guest', 'a running guest names its disks itself', {
      object: wish.forceShare ? '--force-share' : '--disk',
      advice: 'Choose among them with --include NAME and --exclude NAME.',
    });
  }
  if (live === undefined && wish.disks.length === 0) {
    throw new UsageError('no-disks', 'no disk was given', {
      advice: 'Give each with --disk NAME=IMAGE, or a running guest with --qmp SOCKET.',
    });
  }
  if (flags.minFree !== undefined && wish.target.kind !== 'datastore') {
    throw new UsageError('no-room-here', '--min-free is for datastores', { object: `--min-free ${flags.minFree}` });
  }
  if (wish.labels.size > 0 && wish.target.kind !== 'datastore') {
    throw new UsageError('no-labels-here', 'labels are kept beside a backup in a datastore; an archive has none', {
      object: '--label',
    });
  }
  return wish;
}

function parseTarget(output: string | undefined, format: string | undefined): BackupTarget {
  if (output === undefined) {
    if (format === undefined) return { kind: 'datastore' };
    throw new UsageError('needs-output', '--format makes sense only with --output', { object: `--format ${format}` });
  }
  const archive = parseArchive(output, format);
  if (archive.format !== 'tar') return { kind: 'archive', ...archive };
  throw new UsageError('no-tar', 'a backup is not written as a tar at once', {
    object: `--output ${output}`,
    advice: 'Back up into a datastore or a .vmar archive, then use `vmar export --format tar`.',
  });
}
