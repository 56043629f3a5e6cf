// SPDX-License-Identifier: MIT
// Checks one file system by its own tool, after its journal was replayed as a mount would do: a backup of a guest that ran
// is as after a power cut, and a good file system comes through one.

import type { BlockDevice } from '../../block/device.js';
import { type Content, clearFatMark } from './file-system.js';
import { type Ended, runGuarded, unmountAnyway } from './guarded-program.js';

export type PartitionResult = 'passed' | 'failed' | 'unchecked' | 'empty';

export interface CheckedContent {
  readonly result: PartitionResult;
  /** Its journal was replayed, in the scratch file. */
  readonly replayed: boolean;
  /** Why it failed or was not checked. */
  readonly problem?: string;
  /** What the tool said last, where it failed. */
  readonly output?: readonly string[];
}

export interface CheckPlace {
  /** The partition as a file; what is written to it goes to scratch. */
  readonly path: string;
  readonly device: BlockDevice;
  readonly directory: string;
  /** Where a file system is mounted to have its log replayed; undefined: it is not. */
  readonly mountPath: string | undefined;
  readonly signal: AbortSignal;
}

const MOST_LINES = 20;
/** e2fsck: errors were corrected; also those of a journal. */
const CORRECTED = 1;

export function canCheck({ kind }: Content): boolean {
  return kind === 'ext' || kind === 'xfs' || kind === 'btrfs' || kind === 'vfat';
}

export async function checkContent(content: Content, place: CheckPlace): Promise<CheckedContent> {
  switch (content.kind) {
    case 'ext':
      return await checkExt(content, place);
    case 'xfs':
      return await checkXfs(place);
    case 'btrfs':
      return verdict(await run(place, 'btrfs', 'check', '--readonly', place.path), 'btrfs-progs');
    case 'vfat': {
      const replayed = await clearFatMark(place.device);
      return { ...verdict(await run(place, 'fsck.fat', '-n', place.path), 'dosfstools'), replayed };
    }
    default:
      return { result: 'unchecked', replayed: false, problem: 'it cannot be checked from outside of the guest' };
  }
}

/** Without -f, e2fsck -p replays the journal and ends the inodes that were open; then all is looked at, and nothing mended. */
async function checkExt({ wantsReplay }: Content, place: CheckPlace): Promise<CheckedContent> {
  if (wantsReplay) {
    const replay = await run(place, 'e2fsck', '-p', place.path);
    if (replay.status === undefined || replay.status > CORRECTED) return verdict(replay, 'e2fsprogs');
  }
  return { ...verdict(await run(place, 'e2fsck', '-f', '-n', place.path), 'e2fsprogs'), replayed: wantsReplay };
}

const DIRTY_LOG = /valuable metadata changes in a log/;

/** Only a mount replays the log of XFS. */
async function checkXfs(place: CheckPlace): Promise<CheckedContent> {
  const { path, mountPath } = place;
  const first = await run(place, 'xfs_repair', '-n', '-f', path);
  if (first.status === 0 || !DIRTY_LOG.test(first.said)) return verdict(first, 'xfsprogs');
  if (mountPath === undefined) {
    const problem = 'its log wants to be replayed, which only a mount does: --allow-mount';
    return { result: 'unchecked', replayed: false, problem };
  }
  const problem = await replayByMount(place, mountPath);
  if (problem !== undefined) return problem;
  return { ...verdict(await run(place, 'xfs_repair', '-n', '-f', path), 'xfsprogs'), replayed: true };
}

/** What kept it from being mounted and unmounted, if anything did. */
async function replayByMount(place: CheckPlace, mountPath: string): Promise<CheckedContent | undefined> {
  const options = 'loop,nouuid,nosuid,nodev,noexec';
  let isTakenDown = false;
  try {
    const mounted = await run(place, 'mount', '-t', 'xfs', '-o', options, place.path, mountPath);
    if (mounted.status !== 0) return { ...verdict(mounted, 'mount'), problem: 'it cannot be mounted' };
    const unmounted = await run(place, 'umount', mountPath);
    isTakenDown = unmounted.status === 0;
    return isTakenDown ? undefined : verdict(unmounted, 'mount');
  } finally {
    // A mount that was told to end may be there all the same: the kernel goes through with it.
    if (!isTakenDown) await unmountAnyway(place.directory, mountPath);
  }
}

async function run({ directory, signal }: CheckPlace, ...words: string[]): Promise<Ended> {
  const ended = await runGuarded(directory, words, signal);
  signal.throwIfAborted();
  return ended;
}

function verdict({ status, said }: Ended, debianPackage: string): CheckedContent {
  if (status === undefined) {
    const problem = `its tool is not installed (the Debian package ${debianPackage})`;
    return { result: 'unchecked', replayed: false, problem };
  }
  if (status === 0) return { result: 'passed', replayed: false };
  const lines = said.split('\n').filter((line) => line.trim() !== '');
  const problem = `its check ended with status ${status}`;
  return { result: 'failed', replayed: false, problem, output: lines.slice(-MOST_LINES) };
}
