// SPDX-License-Identifier: MIT
// What the flags of a restore ask for, and what that means for a given backup: which disks and files go where.

import { join, resolve } from 'node:path';
import type { Manifest, ManifestDiskKind } from '../../formats/vmar/manifest.js';
import { findDisk } from '../archive/find-disk.js';
import { UsageError } from '../base/errors.js';
import { isNbdUri } from '../nbd/client/nbd-uri.js';
import type { ConfigFile } from './config-files.js';
import { checkDiskName, type DiskPair, parseDisks } from './parse-disk.js';
import { refuseDuplicates } from './parse-pair.js';

export interface RestoreFlags {
  readonly to?: string;
  readonly disk?: readonly string[];
  readonly skip?: readonly string[];
  readonly overwrite?: boolean;
  readonly targetIsZero?: boolean;
  readonly allowDamaged?: boolean;
  readonly workers?: string;
}

export interface RestoreWish {
  /** For all disks that are not named otherwise, and for the configuration files. */
  readonly directory: string | undefined;
  /** As given: their names may be short. */
  readonly disks: readonly DiskPair[];
  readonly skip: readonly string[];
  readonly overwrite: boolean;
  readonly targetIsZero: boolean;
  readonly allowDamaged: boolean;
}

/** What a plan needs to know of a backup, or of an archive of another format. */
export type Restorable = Pick<Manifest, 'configs'> & {
  readonly disks: readonly { readonly name: string; readonly kind?: ManifestDiskKind }[];
};

export interface RestorePlan {
  readonly disks: readonly { readonly disk: string; readonly target: string }[];
  readonly configs: readonly ConfigFile[];
}

export function parseRestore(flags: RestoreFlags): RestoreWish {
  const disks = parseDisks(flags.disk ?? [], 'NAME=TARGET');
  const skip = flags.skip ?? [];
  for (const name of skip) checkDiskName(name, '--skip');
  if (flags.to === '') throw new UsageError('no-target', 'the name of the directory is empty', { object: '--to' });
  if (flags.to === undefined && disks.length === 0) {
    throw new UsageError('no-target', 'nothing says where to restore to', {
      advice: 'Give --to DIR for all disks, or --disk NAME=TARGET for each that is wanted.',
    });
  }
  if (flags.to === undefined && skip.length > 0) {
    throw new UsageError('needs-to', '--skip makes sense only with --to', {
      advice: 'Without --to only the disks named by --disk are restored.',
    });
  }
  return {
    directory: flags.to,
    disks,
    skip,
    overwrite: flags.overwrite === true,
    targetIsZero: flags.targetIsZero === true,
    allowDamaged: flags.allowDamaged === true,
  };
}

/** @throws NotFoundError for a disk that the backup lacks, UsageError where two things would go to one place. */
export function planRestore(manifest: Restorable, wish: RestoreWish): RestorePlan {
  const named = wish.disks.map(({ name, place }) => ({ disk: findDisk(manifest, name).name, target: place }));
  const skipped = wish.skip.map((name) => findDisk(manifest, name).name);
  refuseDuplicates(
    named.map(({ disk }) => disk),
    '--disk',
    'disk',
  );
  const both = skipped.find((name) => named.some(({ disk }) => disk === name));
  if (both !== undefined) throw new UsageError('duplicate', 'a disk is to be restored and skipped', { object: both });
  const others = manifest.disks.filter(
    ({ name }) => !skipped.includes(name) && !named.some(({ disk }) => disk === name),
  );
  const plan = { disks: [...named, ...inDirectory(wish.directory, others)], configs: configs(manifest, wish) };
  refuseSharedTargets(plan);
  return plan;
}

function inDirectory(directory: string | undefined, disks: Restorable['disks']) {
  if (directory === undefined) return [];
  // A blob is a file, not a disk's image.
  return disks.map(({ name, kind }) => ({
    disk: name,
    target: join(directory, kind === 'blob' ? name : `${name}.raw`),
  }));
}

function configs(manifest: Restorable, { directory }: RestoreWish): ConfigFile[] {
  if (directory === undefined) return [];
  return manifest.configs.map(({ name, content }) => ({ name, target: join(directory, name), content }));
}

function refuseSharedTargets({ disks, configs }: RestorePlan): void {
  const seen = new Set<string>();
  for (const { target } of [...disks, ...configs]) {
    const path = isNbdUri(target) ? target : resolve(target);
    if (seen.has(path)) {
      throw new UsageError('same-target', 'two things would be restored to the same place', {
        object: target,
        advice: 'Send one of them elsewhere with --disk NAME=TARGET.',
      });
    }
    seen.add(path);
  }
}
