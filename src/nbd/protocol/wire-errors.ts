// SPDX-License-Identifier: MIT
// Errors of devices as NBD's error numbers, and NBD's numbers as names.

import { systemErrorCode, UsageError, VmarError } from '../../base/errors.js';
import { WIRE_ERROR } from './constants.js';

const NAMES = new Map<number, string>(Object.entries(WIRE_ERROR).map(([name, number]) => [number, name]));

const BY_OWN_CODE: Readonly<Record<string, number>> = {
  'no-space': WIRE_ERROR.ENOSPC,
  'read-only': WIRE_ERROR.EPERM,
  'out-of-range': WIRE_ERROR.EINVAL,
};

const BY_SYSTEM_CODE: Readonly<Record<string, number>> = {
  ENOSPC: WIRE_ERROR.ENOSPC,
  EDQUOT: WIRE_ERROR.ENOSPC,
  EFBIG: WIRE_ERROR.ENOSPC,
  EPERM: WIRE_ERROR.EPERM,
  EROFS: WIRE_ERROR.EPERM,
  ENOMEM: WIRE_ERROR.ENOMEM,
  ENOTSUP: WIRE_ERROR.ENOTSUP,
};

/** The number to send for an error that a device's operation rejected with; EIO for whatever has no better one. */
export function wireErrorOf(error: unknown): number {
  if (!(error instanceof VmarError)) return BY_SYSTEM_CODE[systemErrorCode(error) ?? ''] ?? WIRE_ERROR.EIO;
  const own = BY_OWN_CODE[error.code];
  if (own !== undefined) return own;
  if (error instanceof UsageError) return WIRE_ERROR.EINVAL;
  return error.cause === undefined ? WIRE_ERROR.EIO : wireErrorOf(error.cause);
}

/** "ENOSPC", or "error 200" for a number that NBD does not know. */
export function wireErrorName(error: number): string {
  return NAMES.get(error) ?? `error ${error}`;
}
