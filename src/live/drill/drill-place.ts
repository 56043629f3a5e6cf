// SPDX-License-Identifier: MIT
// Where a drill keeps what it needs: sockets, mount points and what is written to the disks. All of it goes with the drill.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { FailedError, systemErrorCode } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { PrivateDirectory } from '../../base/private-directory.js';
import { GuardedProgram } from './guarded-program.js';

const PREFIX = 'vmar-drill-';

export interface DrillPlace {
  /** For sockets and mount points; short. Whoever guards a program removes it when we are killed, or the next drill does. */
  readonly directory: string;
  /** In a directory of its own: the NBD server locks that. */
  readonly socketPath: string;
  /** For what may be large; in `directory`, or where the user says. */
  readonly workDirectory: string;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Makes the directories for the action, and removes them after it. */
export async function withDrillPlace<Result>(
  parents: { readonly temporary: string; readonly work: string | undefined },
  { log, signal }: Pick<DrillPlace, 'log' | 'signal'>,
  action: (place: DrillPlace) => Promise<Result>,
): Promise<Result> {
  const { temporary, work } = parents;
  return await withDirectory(temporary, true, async (directory) => {
    mkdirSync(join(directory, 'nbd'));
    const socketPath = join(directory, 'nbd', 'socket');
    if (work === undefined) return await action({ directory, workDirectory: directory, socketPath, log, signal });
    return await withDirectory(work, false, async (workDirectory) => {
      return await action({ directory, workDirectory, socketPath, log, signal });
    });
  });
}

/** Someone who outlives us, even when we are killed, takes it away. */
async function withDirectory<Result>(
  parent: string,
  isShort: boolean,
  action: (path: string) => Promise<Result>,
): Promise<Result> {
  const directory = make(parent, isShort);
  const keeper = new GuardedProgram(directory.path, ['sleep', 'infinity']);
  try {
    return await action(directory.path);
  } finally {
    await keeper.end();
    directory.remove();
  }
}

function make(parent: string, isShort: boolean): PrivateDirectory {
  try {
    return isShort ? PrivateDirectory.makeShort(parent, PREFIX) : PrivateDirectory.make(parent, PREFIX);
  } catch (error) {
    throw new FailedError('no-work-directory', `no directory can be made there: ${systemErrorCode(error) ?? error}`, {
      object: parent,
      advice: 'Name another one with --work-dir.',
      cause: error,
    });
  }
}
