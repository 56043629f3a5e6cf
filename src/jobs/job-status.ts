// SPDX-License-Identifier: MIT
// The states of a job and the ways between them, as QEMU has them.

import { BugError } from '../base/errors.js';

/**
 * - `created`: made, not started; may be paused or cancelled.
 * - `running`, `paused`: at work, or held.
 * - `ready`, `standby`: all that there was is done and it follows along until it is told to complete; standby is that, held.
 * - `waiting`: its work is done, others of its transaction are not.
 * - `pending`: all are done; what makes the result final is under way. Can no longer be cancelled.
 * - `aborting`: it failed, was cancelled, or another of its transaction did; it clears up.
 * - `concluded`: over.
 */
export type JobStatus =
  | 'created'
  | 'running'
  | 'paused'
  | 'ready'
  | 'standby'
  | 'waiting'
  | 'pending'
  | 'aborting'
  | 'concluded';

/** From each state, those that may follow. A held job that fails or is cancelled is let go first. */
export const TRANSITIONS: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  created: ['running', 'aborting'],
  running: ['paused', 'ready', 'waiting', 'aborting'],
  paused: ['running'],
  ready: ['standby', 'waiting', 'aborting'],
  standby: ['ready'],
  waiting: ['pending', 'aborting'],
  pending: ['concluded', 'aborting'],
  aborting: ['concluded'],
  concluded: [],
};

/** @throws BugError for a way that does not exist */
export function checkTransition(id: string, from: JobStatus, to: JobStatus): void {
  if (!TRANSITIONS[from].includes(to)) throw new BugError(`job ${id} cannot go from ${from} to ${to}`);
}
