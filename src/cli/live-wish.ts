// SPDX-License-Identifier: MIT
// What the flags of a live restore ask for.

import type { Manifest } from '../../formats/vmar/manifest.js';
import { UsageError } from '../base/errors.js';
import { findStatePath, type StateWish } from '../live/found-state.js';
import type { LiveAssignment } from '../live/live-restore.js';
import { isNbdUri } from '../nbd/client/nbd-uri.js';
import type { MonitorAddress } from '../qmp/monitor.js';
import { parseGuestFlags } from './guest-wish.js';
import { parseWorkers } from './parse-count.js';
import { parseSize } from './parse-size.js';
import { parseRestore, planRestore, type RestoreFlags, type RestoreWish } from './restore-wish.js';

export interface LiveFlags extends RestoreFlags {
  readonly socket?: string;
  readonly state?: string;
  readonly speed?: string;
  readonly exitWhenDone?: boolean;
  readonly qmp?: string;
  readonly libvirt?: string;
}

export interface LiveWish {
  readonly restore: RestoreWish;
  readonly socketPath: string;
  readonly statePath: string | undefined;
  /** Of the disks that were named each has a state file FILE.NAME. */
  readonly hasManyStates: boolean;
  readonly speedBytesPerSecond: number;
  readonly exitWhenDone: boolean;
  /** The monitor of the guest that is to be moved to the targets. */
  readonly guest: MonitorAddress | undefined;
  readonly workers: number | undefined;
}

/** The kernel's limit, without the NUL at its end. */
const MOST_SOCKET_PATH_BYTES = 107;

export function parseLive(flags: LiveFlags): LiveWish {
  refuseUnfit(flags);
  const restore = parseRestore(flags);
  for (const { name, place } of restore.disks) refuseNbd(name, place);
  if (flags.state === '')
    throw new UsageError('no-state', 'the name of the state file is empty', { object: '--state' });
  return {
    restore,
    socketPath: socketPath(flags.socket),
    statePath: flags.state,
    hasManyStates: restore.disks.length > 1,
    speedBytesPerSecond: flags.speed === undefined ? 0 : parseSize(flags.speed, '--speed'),
    exitWhenDone: flags.exitWhenDone === true,
    guest: parseGuestFlags({
      ...(flags.qmp !== undefined && { qmp: flags.qmp }),
      ...(flags.libvirt !== undefined && { libvirt: flags.libvirt }),
    })?.address,
    workers: parseWorkers(flags.workers).workers,
  };
}

function refuseUnfit(flags: LiveFlags): void {
  const unfit = flags.to !== undefined ? '--to' : flags.skip !== undefined ? '--skip' : undefined;
  if (unfit !== undefined) {
    throw new UsageError('not-live', 'a live restore takes each disk by --disk NAME=TARGET', { object: unfit });
  }
  if (flags.allowDamaged !== true) return;
  throw new UsageError('not-live', 'a live restore never puts zeros in the place of what is damaged', {
    object: '--allow-damaged',
    advice: 'Reads of what is damaged fail until the guest overwrites it; the rest is restored.',
  });
}

function refuseNbd(name: string, place: string): void {
  if (!isNbdUri(place)) return;
  throw new UsageError('not-live', 'a live restore needs a file or block device, whose flushes it can rely on', {
    object: `--disk ${name}=${place}`,
    advice: 'Name the file or device itself; without --live a disk can be restored to an NBD server.',
  });
}

function socketPath(path: string | undefined): string {
  if (path === undefined || path === '') {
    throw new UsageError('no-socket', 'nothing says where the guest can connect', {
      advice: 'Give --socket PATH, and start the guest with its disk at nbd+unix:///NAME?socket=PATH.',
    });
  }
  const bytes = Buffer.byteLength(path);
  if (bytes <= MOST_SOCKET_PATH_BYTES) return path;
  throw new UsageError('socket-path-too-long', 'the path is too long for a socket', {
    object: path,
    expected: `at most ${MOST_SOCKET_PATH_BYTES} bytes`,
    found: `${bytes} bytes`,
  });
}

/**
 * Which disk goes where. One disk's state is kept in the file that was named; of several each has its own, FILE.NAME.
 * @throws NotFoundError for a disk that the backup lacks, UsageError where two would go to one place.
 */
export function planLive(manifest: Manifest, { restore, statePath, hasManyStates }: LiveWish): LiveAssignment[] {
  const { disks } = planRestore(manifest, restore);
  const state = (disk: string) =>
    statePath === undefined ? undefined : hasManyStates ? `${statePath}.${disk}` : statePath;
  return disks.map(({ disk, target }) => ({ disk, target, statePath: state(disk) }));
}

/** The same, before a backup is open that says what the disks' full names are. */
export async function stateWishes({ restore: { disks }, statePath, hasManyStates }: LiveWish): Promise<StateWish[]> {
  const state = async (disk: string) =>
    statePath === undefined || !hasManyStates ? statePath : await findStatePath(statePath, disk);
  return await Promise.all(
    disks.map(async ({ name, place }) => ({ disk: name, target: place, statePath: await state(name) })),
  );
}
