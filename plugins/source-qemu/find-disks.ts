// SPDX-License-Identifier: MIT
// Which disks a guest has, and where a filter can be put under each.

import { UsageError } from '../../src/base/errors.js';
import { type BlockNodeInfo, type DriveInfo, type Monitor, qomPathOf } from '../../src/plugin-api.js';
import { notPossible } from './fitness.js';
import { isOurs } from './names.js';
import { isFirmware } from './outside.js';
import { unseenDisks } from './unseen.js';

/** How the filter gets between the disk's user and its image. */
export type Insertion =
  /** By the device's own property. */
  | { readonly kind: 'device'; readonly qomPath: string }
  /** Under a raw node that the user has. */
  | { readonly kind: 'raw-node'; readonly top: BlockNodeInfo };

export interface FoundDisk {
  readonly name: string;
  readonly sizeBytes: number;
  /** What the filter goes over: bitmaps are its. */
  readonly node: BlockNodeInfo;
  readonly insertion: Insertion;
}

export interface FoundDisks {
  readonly disks: readonly FoundDisk[];
  readonly skipped: readonly { readonly name: string; readonly reason: string }[];
}

export interface DiskChoice {
  /** If any is named, only these. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}

type Candidate = { readonly name: string } & (
  | { readonly reason: string }
  | { readonly disk: FoundDisk }
  /** A disk, but one that no filter can be put under. */
  | { readonly impossible: string }
);

/**
 * The guest's disks, and in a storage daemon, which has no guest, the raw nodes that are exported for writing.
 * @throws UsageError when a disk that was named is not there, or none is left; FailedError for one that cannot be done
 */
export async function findDisks(monitor: Monitor, choice: DiskChoice): Promise<FoundDisks> {
  const drives = await monitor.execute('query-block', {});
  // What a machine exports besides are its disks once more, or another program's business.
  const candidates =
    drives.length > 0
      ? await Promise.all(drives.map((drive) => fromDrive(monitor, drive)))
      : await exportedNodes(monitor);
  for (const { device, reason } of await unseenDisks(monitor)) candidates.push({ name: cleaned(device), reason });
  const names = new Set<string>();
  const disks: FoundDisk[] = [];
  const skipped: { name: string; reason: string }[] = [];
  for (const candidate of candidates) {
    const name = unique(candidate.name, names);
    if ('impossible' in candidate) {
      if (isChosen(name, choice)) throw notPossible(monitor.name, name, candidate.impossible);
      skipped.push({ name, reason: candidate.impossible });
    } else if ('reason' in candidate) skipped.push({ name, reason: candidate.reason });
    else if (isChosen(name, choice)) disks.push({ ...candidate.disk, name });
    else skipped.push({ name, reason: 'left out by --include or --exclude' });
  }
  checkChoice(choice, disks, skipped, monitor.name);
  return { disks, skipped };
}

/** Of devices whose media are no disks. An SD card, or a USB stick, is one, though it can be pulled out. */
const MEDIA: ReadonlySet<string> = new Set(['ide-cd', 'scsi-cd', 'floppy']);

async function fromDrive(monitor: Monitor, drive: DriveInfo): Promise<Candidate> {
  const { inserted, qdev } = drive;
  const name = driveName(drive);
  if (inserted === undefined) return { name, reason: drive.removable ? 'an empty removable drive' : 'an empty drive' };
  if (qdev === undefined) return { name, reason: 'no device of the guest uses it' };
  const qomPath = qomPathOf(qdev);
  if (drive.removable && MEDIA.has(await monitor.execute('qom-get', { path: qomPath, property: 'type' }))) {
    return { name, reason: 'a removable drive (CD-ROM, floppy)' };
  }
  if (isFirmware(drive)) return { name, reason: inserted.readOnly ? 'firmware' : 'variables of the firmware' };
  if (inserted.readOnly) return { name, reason: 'read-only' };
  const disk = { name, sizeBytes: inserted.sizeBytes, node: inserted, insertion: { kind: 'device' as const, qomPath } };
  return { name, disk };
}

/** "drive-scsi0" of -drive id=, else the device's id, else its place. */
function driveName({ device, qdev, inserted }: DriveInfo): string {
  if (device !== '') return cleaned(device);
  const id = qdev
    ?.replace(/^\/machine\/(peripheral\/|peripheral-anon\/|unattached\/)?/, '')
    .replace(/\/virtio-backend$/, '');
  return cleaned(id ?? inserted?.nodeName ?? 'disk');
}

function cleaned(name: string): string {
  const clean = name.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+|-+$/g, '');
  return clean.slice(0, 63) || 'disk';
}

function unique(name: string, names: Set<string>): string {
  let candidate = name;
  for (let n = 2; names.has(candidate); n++) candidate = `${name.slice(0, 58)}-${n}`;
  names.add(candidate);
  return candidate;
}

async function exportedNodes(monitor: Monitor): Promise<Candidate[]> {
  const exports = (await monitor.execute('query-block-exports', {})).filter((one) => !isOurs(one.id));
  if (exports.length === 0) return [];
  const nodes = await monitor.execute('query-named-block-nodes', { flat: true });
  const { edges } = await monitor.execute('x-debug-query-block-graph', {});
  const byName = new Map(nodes.map((node) => [node.nodeName, node]));
  const tops = [...new Set(exports.map(({ nodeName }) => nodeName))].sort();
  return tops.flatMap((topName): Candidate[] => {
    const top = byName.get(topName);
    if (top === undefined) return [];
    const name = cleaned(topName);
    if (top.readOnly) return [{ name, reason: 'read-only' }];
    const below = edges.find(({ parent, name: edge }) => parent === topName && edge === 'file')?.child;
    const node = below === undefined ? undefined : byName.get(below);
    const fault = rawNodeFault(top, node);
    if (fault !== undefined || node === undefined) {
      // One over NBD may be for reading only, which QEMU does not tell: another program's, and no disk of a guest.
      const isForOthers = exports.every(({ nodeName, type }) => nodeName !== topName || type === 'nbd');
      return [isForOthers ? { name, reason: fault ?? '' } : { name, impossible: fault ?? '' }];
    }
    return [{ name, disk: { name, sizeBytes: top.sizeBytes, node, insertion: { kind: 'raw-node' as const, top } } }];
  });
}

function rawNodeFault(top: BlockNodeInfo, node: BlockNodeInfo | undefined): string | undefined {
  if (top.driver !== 'raw' || node === undefined) {
    return `it is exported from a ${top.driver} node, and a filter goes only under a raw one`;
  }
  return node.sizeBytes === top.sizeBytes ? undefined : 'it is a part of an image';
}

/** `scsi0` finds `drive-scsi0`. */
function matches(name: string, wanted: string): boolean {
  return name === wanted || name === `drive-${wanted}`;
}

function isChosen(name: string, { include, exclude }: DiskChoice): boolean {
  if (exclude.some((wanted) => matches(name, wanted))) return false;
  return include.length === 0 || include.some((wanted) => matches(name, wanted));
}

function checkChoice(
  { include, exclude }: DiskChoice,
  disks: readonly FoundDisk[],
  skipped: FoundDisks['skipped'],
  object: string,
): void {
  const all = [...disks, ...skipped];
  const unknown = [...include, ...exclude].find((wanted) => !all.some(({ name }) => matches(name, wanted)));
  const told = all.map(({ name }) => name).join(', ') || 'none';
  if (unknown !== undefined) {
    throw new UsageError('no-such-disk', `the guest has no disk ${unknown}`, { object, found: told });
  }
  const refused = include.map((wanted) => skipped.find(({ name }) => matches(name, wanted))).find(Boolean);
  if (refused !== undefined) {
    throw new UsageError('disk-not-possible', `disk ${refused.name} cannot be backed up: ${refused.reason}`, {
      object,
    });
  }
  if (disks.length > 0) return;
  const reasons = skipped.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
  throw new UsageError('no-disks', 'the guest has no disk to back up', { object, found: reasons || 'no drives' });
}
