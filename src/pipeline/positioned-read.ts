// SPDX-License-Identifier: MIT
// Positioned reads in which a medium that fails is a value: it is damage to be reported. Anything else that goes wrong
// (a closed descriptor, no memory) is an error.

import { readSync } from 'node:fs';
import { constants } from 'node:os';
import { FailedError } from '../base/errors.js';

/** How a read ended: 'short' if the file ends first, 'unreadable' if the medium or file system says the data is gone. */
export type ReadOutcome = 'ok' | 'short' | 'unreadable';

/** Not in node:os: structure needs cleaning (ext4, XFS), remote I/O error, no medium. */
const EUCLEAN = 117;
const EREMOTEIO = 121;
const ENOMEDIUM = 123;
const { EIO, EBADMSG, EILSEQ, ENODATA } = constants.errno;
const MEDIUM_ERRORS = new Set<unknown>([EIO, EBADMSG, EILSEQ, ENODATA, EUCLEAN, EREMOTEIO, ENOMEDIUM]);

/** Fills the first `length` bytes of `into` from an offset. @throws FailedError for anything but damage. */
export function readWhole(fd: number, into: Uint8Array, length: number, offset: number, object: string): ReadOutcome {
  const { outcome } = readUpTo(fd, into, length, offset, object);
  return outcome;
}

/** The same, and how many bytes came before it ended. */
export function readUpTo(
  fd: number,
  into: Uint8Array,
  length: number,
  offset: number,
  object: string,
): { readonly outcome: ReadOutcome; readonly got: number } {
  let got = 0;
  while (got < length) {
    let count: number;
    try {
      count = readSync(fd, into, got, length - got, offset + got);
    } catch (cause) {
      if (isMediumError(cause)) return { outcome: 'unreadable', got };
      throw new FailedError('read-failed', `cannot be read: ${String(cause)}`, {
        object,
        offsetBytes: offset + got,
        cause,
      });
    }
    if (count === 0) return { outcome: 'short', got };
    got += count;
  }
  return { outcome: 'ok', got };
}

function isMediumError(error: unknown): boolean {
  return error instanceof Error && 'errno' in error && MEDIUM_ERRORS.has(Math.abs(Number(error.errno)));
}
