// SPDX-License-Identifier: MIT
// What commands remember in state/: whole small files, put in place in one durable step, changed by one process at a time.
//
// Guarantee: none of them is needed to read or make a backup. One that is missing or damaged counts as empty.

import { join } from 'node:path';
import { ENVELOPE_OVERHEAD_BYTES, MAX_PAYLOAD_BYTES } from '../../formats/vmar/limits.js';
import { FailedError, NotFoundError, VmarError } from '../base/errors.js';
import { waitLock } from './locks.js';
import type { Session, SessionPlace } from './session.js';
import { readSmallFile, writeDurably } from './small-file.js';

const MOST_STATE_BYTES = MAX_PAYLOAD_BYTES + ENVELOPE_OVERHEAD_BYTES;
/** Whoever holds the lock writes a file or two. */
const LOCK_SECONDS = 30;

export function statePath(root: string, name: string): string {
  return join(root, 'state', name);
}

/** The lock of whoever changes the verify history or the damage list. */
export function stateLockPath(root: string): string {
  return join(root, 'locks', 'state.lock');
}

/** Undefined if there is none. @throws DamageError, FailedError if it is newer */
export async function readStateFile<Content>(
  path: string,
  decode: (bytes: Uint8Array, object: string) => Content,
): Promise<Content | undefined> {
  try {
    return decode(await readSmallFile(path, MOST_STATE_BYTES), path);
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** The files of `contents`, by their paths, one after another; each is the old one or the new one at any time. */
export async function writeStateFiles(
  place: SessionPlace,
  session: Session,
  contents: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  for (const [path, bytes] of contents) {
    const temporary = session.temporaryPath('state');
    await writeDurably(place.fs, temporary, bytes);
    await place.fs.rename(temporary, path);
    await place.fs.fsyncDirectory(statePath(place.root, '.'));
  }
}

/**
 * Runs what reads state, changes it and writes it, while nobody else does. What cannot be remembered is no reason to fail:
 * false then, and the log says why; where the datastore cannot be written at all, it says nothing.
 */
export async function changingState(
  place: SessionPlace & { checkWritable(): void },
  session: Session,
  change: () => Promise<void>,
): Promise<boolean> {
  if (!session.hasTmpDir) return false;
  try {
    place.checkWritable();
    const lock = await waitLock(place.fs, stateLockPath(place.root), 'exclusive', { waitSeconds: LOCK_SECONDS });
    if (lock === undefined) throw stateBusy(place.root);
    try {
      await change();
    } finally {
      await lock.release();
    }
    return true;
  } catch (error) {
    if (!(error instanceof VmarError)) throw error;
    place.log.warn(`what was verified is not remembered: ${error.message} (${error.object ?? place.root})`);
    return false;
  }
}

function stateBusy(root: string): FailedError {
  return new FailedError('state-busy', 'another vmar holds the lock of the state files', {
    object: stateLockPath(root),
  });
}
