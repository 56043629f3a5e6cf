// SPDX-License-Identifier: MIT
// The store's one door to changing a file system. Everything that a datastore changes goes through it, so that tests can
// record, cut off and fail each step. Reading needs no door: it uses node:fs.

import { FailedError, systemErrorCode, VmarError } from '../base/errors.js';

/**
 * A new file, written front to back. Calls must not overlap.
 *
 * A write or fsync that failed poisons the file: every later write and fsync rejects with the same error, nothing is
 * tried again, and the caller abandons the file. Failures may come late: only `fsync` tells that all bytes are there.
 */
export interface StoreFile {
  readonly path: string;
  /** Appends; `offsetBytes` is where the file ends now. All of it or a rejection. The buffers are free once it resolves. */
  write(buffers: readonly Uint8Array[], offsetBytes: number): Promise<void>;
  /** Once it resolves, the content is durable at its exact length; the file's name is not (see `fsyncDirectory`). */
  fsync(): Promise<void>;
  /**
   * Gives up the descriptors, in any case; may be called twice. Rejects if bytes could not be written and no call has
   * said so yet. Promises no durability.
   */
  close(): Promise<void>;
}

export interface CreateOptions {
  /** Large, and not read back soon: written past the page cache where the file system can. */
  readonly direct?: boolean;
}

/**
 * Changes names and makes files. Names are durable only once `fsyncDirectory` of their directory resolves, contents only
 * once `StoreFile.fsync` does. Failures are FailedErrors that name the path; `systemCode` gives their system error code.
 */
export interface StoreFs {
  /** Makes a file of mode 0600, whatever the umask; EEXIST if there is anything of that name. */
  createFile(path: string, options?: CreateOptions): Promise<StoreFile>;
  /** Makes a directory of mode 0700, whatever the umask; its parent must exist; EEXIST if there is anything of that name. */
  mkdir(path: string): Promise<void>;
  /** Puts `from` in the place of `to` in one step. */
  rename(from: string, to: string): Promise<void>;
  /** A second name for a file; EEXIST if there is anything of that name. */
  link(existing: string, path: string): Promise<void>;
  unlink(path: string): Promise<void>;
  rmdir(path: string): Promise<void>;
  /** Once it resolves, the names in the directory are durable as they are now. */
  fsyncDirectory(path: string): Promise<void>;
}

interface Wording {
  readonly code: string;
  readonly problem: string;
  readonly advice: string;
}

const NO_SPACE = 'Free space there (`vmar forget`, `vmar gc`, or other files) and run it again.';
const NO_LOCKS = 'Mount it with locks (NFS: rpc.statd runs on both sides), or for one host alone with `nolock`.';
const OTHER_PLACE = 'Take a file system of Linux, as ext4 or XFS.';
const NO_PERMISSION = 'Run it as the owner of the files, or give yourself the permission.';

const WORDINGS: Readonly<Record<string, Wording>> = {
  ENOSPC: { code: 'no-space', problem: 'no space is left on the device', advice: NO_SPACE },
  EDQUOT: { code: 'no-space', problem: 'the disk quota is used up', advice: NO_SPACE },
  EFBIG: {
    code: 'file-too-large',
    problem: 'the file system or a limit allows no larger file',
    advice: 'See `ulimit -f`.',
  },
  EROFS: { code: 'read-only', problem: 'the file system is read-only', advice: 'Mount it writable and run it again.' },
  EACCES: { code: 'no-permission', problem: 'permission is denied', advice: NO_PERMISSION },
  EPERM: { code: 'no-permission', problem: 'the operation is not permitted', advice: NO_PERMISSION },
  EEXIST: { code: 'exists', problem: 'it exists already', advice: 'Choose another name, or remove it.' },
  ENOENT: { code: 'missing', problem: 'no such file or directory', advice: 'Check that the file system is mounted.' },
  ENOTDIR: { code: 'not-a-directory', problem: 'a part of the path is no directory', advice: 'Choose another place.' },
  EISDIR: { code: 'not-a-file', problem: 'it is a directory', advice: 'Remove it, or put back what was there.' },
  ELOOP: { code: 'is-a-link', problem: 'it is a symbolic link', advice: 'Remove it, or put back what was there.' },
  ENOLCK: { code: 'no-locks', problem: 'the file system has no locks', advice: NO_LOCKS },
  ENOTSUP: { code: 'not-supported', problem: 'the file system cannot do that', advice: OTHER_PLACE },
  ENOSYS: { code: 'not-supported', problem: 'the file system cannot do that', advice: OTHER_PLACE },
  EIO: {
    code: 'io-error',
    problem: 'input/output error',
    advice: 'Check the disk (`dmesg`, smartctl), then run it again.',
  },
};

/** The FailedError for a system error; an error that is one of ours already comes back as it is. */
export function storeFailure(error: unknown, doing: string, path: string): VmarError {
  if (error instanceof VmarError) return error;
  const found = systemErrorCode(error);
  const wording = found === undefined ? undefined : WORDINGS[found];
  if (wording === undefined) {
    return new FailedError('io-failed', `cannot ${doing}: ${found ?? String(error)}`, { object: path, cause: error });
  }
  return new FailedError(wording.code, `cannot ${doing}: ${wording.problem}`, {
    object: path,
    advice: wording.advice,
    cause: error,
  });
}

/** The system error code ("ENOENT") of an error from the store, or of a bare error of Node; else undefined. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof VmarError ? systemErrorCode(error.cause) : systemErrorCode(error);
}
