// SPDX-License-Identifier: MIT
// The time of a new backup where the clock cannot be believed.

import { formatTime, MAX_TIME_SECONDS } from '../../formats/vmar/names.js';
import { FailedError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { type BackupRef, formatBackupId } from './backup-id.js';

/** Backups that follow each other within a second get whole seconds of their own: no reason to warn. */
const SLACK_SECONDS = 60;

/**
 * The clock's time if it is after the guest's latest backup, else the first second after that. "Latest" is what decides
 * which backup a later one is compared with and which one a dirty bitmap follows, so it must be the one made last.
 * @throws FailedError if there is no later time
 */
export function timeAfter(latest: BackupRef, nowSeconds: number, log: Log): number {
  if (nowSeconds > latest.timeSeconds) return nowSeconds;
  if (latest.timeSeconds >= MAX_TIME_SECONDS) {
    throw new FailedError('no-later-time', 'the latest backup of the guest has the last time that there is', {
      object: formatBackupId(latest),
      advice: 'Forget that backup, or give a time with --time.',
    });
  }
  const timeSeconds = latest.timeSeconds + 1;
  if (latest.timeSeconds - nowSeconds > SLACK_SECONDS) {
    log.warn(
      `the clock says ${formatTime(Math.max(0, nowSeconds))}, but ${formatBackupId(latest)} was made before: ` +
        `one of the two is wrong. This backup is made as of ${formatTime(timeSeconds)}, so that it is the latest`,
    );
  }
  return timeSeconds;
}
