// SPDX-License-Identifier: MIT
// Whether a state file is of the restore that was asked for.

import { FailedError } from '../base/errors.js';
import type { JournalIdentity } from './journal-header.js';

const ADVICE =
  'Give the command that it was begun with, name another file with --state, or remove the state file to restore anew.';

/** @throws FailedError 'state-of-another-backup', naming both. */
export function checkBackupIdentity(was: JournalIdentity['backup'], is: JournalIdentity['backup'], path: string): void {
  const isSame =
    was.digest === is.digest && was.disk === is.disk && was.mapRoot === is.mapRoot && was.sizeBytes === is.sizeBytes;
  if (isSame) return;
  throw new FailedError('state-of-another-backup', 'the state file is of a restore of another backup or disk', {
    object: path,
    expected: `${is.name}, disk ${is.disk}`,
    found: `${was.name}, disk ${was.disk}`,
    advice: ADVICE,
  });
}

/** @throws FailedError 'state-of-another-target', naming both. */
export function checkTargetIdentity(was: JournalIdentity['target'], is: JournalIdentity['target'], path: string): void {
  const isSame =
    was.path === is.path && was.kind === is.kind && was.inode === is.inode && was.sizeBytes === is.sizeBytes;
  if (isSame) return;
  throw new FailedError('state-of-another-target', 'the state file is of a restore to another target', {
    object: path,
    expected: targetText(is),
    found: targetText(was),
    advice: ADVICE,
  });
}

function targetText({ path, kind, inode, sizeBytes }: JournalIdentity['target']): string {
  return `${path} (${kind}, ${inode === undefined ? '' : `inode ${inode}, `}${sizeBytes} bytes)`;
}
