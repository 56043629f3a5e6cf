// SPDX-License-Identifier: MIT
// What a job does about a read or a write that failed.

import { systemErrorCode } from '../base/errors.js';

/**
 * `report`: the job fails. `ignore`: it goes on, and tries the operation again later if it can. `stop`: it pauses until
 * it is resumed, and then tries again. `enospc`: stop if there is no space, report anything else.
 */
export type ErrorAction = 'report' | 'ignore' | 'stop' | 'enospc';

/** The last error that stopped the job; `ok` again once it is resumed. */
export type IoStatus = 'ok' | 'failed' | 'nospace';

/** Which side of the job an operation failed on. */
export type ErrorSide = 'source' | 'target';

export interface JobIoError {
  readonly where: ErrorSide;
  readonly action: 'report' | 'ignore' | 'stop';
  readonly error: unknown;
}

/** What the policy comes to for this error. */
export function actionFor(policy: ErrorAction, error: unknown): JobIoError['action'] {
  if (policy !== 'enospc') return policy;
  return isNoSpace(error) ? 'stop' : 'report';
}

/** Whether the error, or one that caused it, says that there is no space left. */
export function isNoSpace(error: unknown): boolean {
  const CAUSES = 8;
  let at = error;
  for (let depth = 0; depth < CAUSES && at !== undefined; depth++) {
    const code = systemErrorCode(at);
    if (code === 'no-space' || code === 'ENOSPC' || code === 'EDQUOT') return true;
    at = at instanceof Error ? at.cause : undefined;
  }
  return false;
}
