// SPDX-License-Identifier: MIT
// What goes wrong with an image file or a block device, in words.

import { BusyError, FailedError, systemErrorCode, type VmarError } from '../base/errors.js';

const OPEN_FAILURES: Readonly<Record<string, readonly [code: string, message: string]>> = {
  ENOENT: ['image-missing', 'there is no such file or device'],
  ENOTDIR: ['image-missing', 'there is no such file or device'],
  EACCES: ['image-unreadable', 'it may not be opened: permission denied'],
  EPERM: ['image-unreadable', 'it may not be opened: permission denied'],
  EROFS: ['image-unreadable', 'it cannot be opened for writing: the file system is read-only'],
  ETXTBSY: ['image-unreadable', 'it cannot be opened for writing: it is a program that runs'],
  ENOMEDIUM: ['image-unreadable', 'the device holds no medium'],
  ENXIO: ['image-unreadable', 'there is no device behind it'],
};

export function openFailed(name: string, error: unknown): VmarError {
  const code = systemErrorCode(error);
  if (code === 'EBUSY') {
    return new BusyError('device-in-use', 'the device is mounted or otherwise in use', {
      object: name,
      advice: 'Unmount it, or choose another one.',
      cause: error,
    });
  }
  const known = code === undefined ? undefined : OPEN_FAILURES[code];
  const [ours, message] = known ?? ['image-unreadable', `it cannot be opened: ${reason(error)}`];
  const advice = code === 'EACCES' || code === 'EPERM' ? { advice: 'Run it as a user who may open it.' } : {};
  return new FailedError(ours, message, { object: name, cause: error, ...advice });
}

export function notAnImage(name: string, found: string): FailedError {
  return new FailedError('not-an-image', `it is ${found}, not a disk image`, {
    object: name,
    expected: 'a file or a block device',
    found,
  });
}

export function readFailed(name: string, offsetBytes: number, error: unknown): FailedError {
  return new FailedError('read-failed', `reading failed: ${reason(error)}`, {
    object: name,
    offsetBytes,
    cause: error,
    advice: 'Look in the kernel log for errors of the disk.',
  });
}

export function writeFailed(name: string, offsetBytes: number, error: unknown): FailedError {
  const full = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(systemErrorCode(error) ?? '');
  return new FailedError(full ? 'no-space' : 'write-failed', `writing failed: ${reason(error)}`, {
    object: name,
    offsetBytes,
    cause: error,
    advice: full ? 'Make room on the target.' : 'Look in the kernel log for errors of the disk.',
  });
}

export function flushFailed(name: string, error: unknown): FailedError {
  return new FailedError('flush-failed', `what was written may not be on the disk: ${reason(error)}`, {
    object: name,
    cause: error,
    advice: 'Take the whole target for lost; look in the kernel log for errors of the disk.',
  });
}

export function shrank(name: string, offsetBytes: number, expectedBytes: number, foundBytes: number): FailedError {
  return new FailedError('image-shrank', 'the image got shorter while it was read', {
    object: name,
    offsetBytes,
    expected: `${expectedBytes} bytes`,
    found: `${foundBytes} bytes`,
    advice: 'Let nothing resize the image during the backup, and start again.',
  });
}

export function grew(name: string, expectedBytes: number, foundBytes: number): FailedError {
  return new FailedError('image-grew', 'the image got longer while it was read', {
    object: name,
    offsetBytes: expectedBytes,
    expected: `${expectedBytes} bytes`,
    found: `${foundBytes} bytes`,
    advice: 'Let nothing resize the image during the backup, and start again.',
  });
}

/** "EIO: i/o error, read", or whatever the error says. */
function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
