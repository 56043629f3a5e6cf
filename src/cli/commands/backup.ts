// SPDX-License-Identifier: MIT
// vmar backup

import { type ExitStatus, UsageError } from '../../base/errors.js';
import type { Guardian } from '../../qmp/guardian.js';
import { type BackupFlags, type BackupWish, parseBackup } from '../backup-wish.js';
import { readConfigs } from '../config-files.js';
import type { Context } from '../context.js';

export type { BackupFlags } from '../backup-wish.js';

export async function run(context: Context, guestText: string, flags: BackupFlags): Promise<ExitStatus> {
  if (flags.output === '-' && context.output.json) {
    throw new UsageError('json-here', 'standard output is the archive: --json has no place', { object: '--output -' });
  }
  const wish = parseBackup(guestText, flags);
  const configs = await readConfigs(wish.configPaths);
  // What does the work is large, and of no use to who mistyped.
  const [{ runBackup }, guardian] = await Promise.all([import('../run-backup.js'), startGuardian(wish)]);
  try {
    return await runBackup(context, wish, configs, guardian);
  } finally {
    guardian?.end();
  }
}

/** It takes as long to start as the rest does to get to where it is needed. */
async function startGuardian({ live }: BackupWish): Promise<Guardian | undefined> {
  if (live === undefined) return undefined;
  const { newGuardian } = await import('../guest-input.js');
  return newGuardian();
}
