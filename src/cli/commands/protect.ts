// SPDX-License-Identifier: MIT
// vmar protect

import { EXIT, type ExitStatus } from '../../base/errors.js';
import { formatBackupId } from '../../store/backup-id.js';
import { setProtection } from '../../store/change-backups.js';
import type { Context } from '../context.js';
import { findBackups } from '../find-backups.js';
import { withStore } from '../open-store.js';

export interface ProtectFlags {
  readonly off?: boolean;
}

/** All of the backups or, if one is not there, damaged or busy, none. Those that are so already are left as they are. */
export async function run(context: Context, names: readonly string[], flags: ProtectFlags): Promise<ExitStatus> {
  const isProtected = flags.off !== true;
  return await withStore(context, async (store) => {
    const backups = await findBackups(store.root, names, 'protected');
    const changed = new Set((await setProtection(store, backups, isProtected)).map(formatBackupId));
    const ids = backups.map(formatBackupId);
    context.output.summary(
      () => ({ backups: ids, protected: isProtected, changed: [...changed] }),
      () => ids.map((id) => `${id} ${told(isProtected, changed.has(id))}`).join('\n'),
    );
    return EXIT.done;
  });
}

function told(isProtected: boolean, isChanged: boolean): string {
  if (isProtected) return isChanged ? 'is protected now' : 'was protected already';
  return isChanged ? 'is protected no more' : 'was not protected';
}
