// SPDX-License-Identifier: MIT
// Where a disk is restored to while its guest runs: a new file, or a file or block device that is there already.
//
// Guarantees: nothing is written to a target that is too small, in use, or (unless told) not empty. A new file has its
// own name and its full length at once, durably, since the guest runs on it.

import fs from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { promisify } from 'node:util';
import { checkTarget, checkTargetSize, hasContent } from '../archive/target-checks.js';
import { FailedError, systemErrorCode } from '../base/errors.js';
import { type FileDevice, openFileDevice } from '../block/file-device.js';
import type { JournalIdentity } from './journal-header.js';

const truncateAsync = promisify(fs.ftruncate);
const syncAsync = promisify(fs.fsync);

export interface LiveTargetOptions {
  /** There is a state file: what is on the target is this restore's. */
  readonly isResumed: boolean;
  readonly overwrite: boolean;
  /** The caller promises that the target reads as zeros. */
  readonly targetIsZero: boolean;
}

export interface LiveTarget {
  readonly device: FileDevice;
  readonly identity: JournalIdentity['target'];
  /** All of it reads as zeros. */
  readonly isZero: boolean;
  readonly excessBytes: number;
  /** Removes a file that was made for this; what was there before stays. Then closes. */
  abandon(): Promise<void>;
}

/** What the path names, or would name once it is made. */
export async function targetKind(path: string): Promise<'file' | 'device' | 'missing'> {
  try {
    return (await stat(path)).isBlockDevice() ? 'device' : 'file';
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return 'missing';
    throw new FailedError('image-unreadable', `the target cannot be looked at: ${String(error)}`, {
      object: path,
      cause: error,
    });
  }
}

/** @throws FailedError 'target-too-small', 'target-not-empty'; BusyError when others have it open or mounted. */
export async function openLiveTarget(path: string, sizeBytes: number, options: LiveTargetOptions): Promise<LiveTarget> {
  const isNew = (await targetKind(path)) === 'missing';
  if (isNew && options.isResumed) throw targetGone(path);
  if (isNew) await makeFile(path, sizeBytes);
  let device: FileDevice | undefined;
  const abandon = async (): Promise<void> => {
    if (isNew) await rm(path, { force: true });
    await device?.close();
  };
  try {
    device = await openFileDevice(path, { readOnly: false });
    if (!isNew && !options.isResumed && device.lengthBytes < sizeBytes && isEmptyFile(device)) {
      await lengthen(device, path, sizeBytes);
      await device.close();
      device = await openFileDevice(path, { readOnly: false });
    }
    if (options.isResumed) checkTargetSize(device, path, sizeBytes);
    else if (!isNew) await checkTarget(device, path, sizeBytes, options);
    return {
      device,
      identity: identityOf(device, path),
      isZero: !options.isResumed && (isNew || options.targetIsZero || (await isAllHole(device))),
      excessBytes: device.lengthBytes - sizeBytes,
      abandon,
    };
  } catch (error) {
    await abandon();
    throw error;
  }
}

/** As one is that was killed while it made its target. */
function isEmptyFile({ isBlockDevice, lengthBytes }: FileDevice): boolean {
  return !isBlockDevice && lengthBytes === 0;
}

async function lengthen({ fd }: FileDevice, path: string, sizeBytes: number): Promise<void> {
  try {
    await truncateAsync(fd, sizeBytes);
    await syncAsync(fd);
  } catch (error) {
    throw targetFailed(path, error);
  }
}

async function isAllHole(device: FileDevice): Promise<boolean> {
  return !device.isBlockDevice && !(await hasContent(device));
}

function identityOf(device: FileDevice, path: string): JournalIdentity['target'] {
  const { isBlockDevice, lengthBytes } = device;
  return {
    path: resolve(path),
    kind: isBlockDevice ? 'device' : 'file',
    inode: isBlockDevice ? undefined : String(fs.fstatSync(device.fd, { bigint: true }).ino),
    sizeBytes: lengthBytes,
  };
}

async function makeFile(path: string, sizeBytes: number): Promise<void> {
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.truncate(sizeBytes);
      await file.sync();
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    const directory = await open(dirname(resolve(path)), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  } catch (error) {
    throw targetFailed(path, error);
  }
}

function targetFailed(path: string, error: unknown): FailedError {
  const why = error instanceof Error ? error.message : String(error);
  return new FailedError('target-failed', `the target cannot be made: ${why}`, {
    object: path,
    advice:
      systemErrorCode(error) === 'ENOENT' ? 'Make its directory first.' : 'Name a place where a file can be written.',
    cause: error,
  });
}

function targetGone(path: string): FailedError {
  return new FailedError('state-of-another-target', 'there is a state file, but its target is gone', {
    object: path,
    advice: 'Bring the target back; or remove the state file to restore anew.',
  });
}
