// SPDX-License-Identifier: MIT
// vma-restore: live restore in a later version; without --live it is vmar restore.

import { type ExitStatus, FailedError, UsageError } from '../../base/errors.js';
import type { Context } from '../context.js';
import type { RestoreFlags } from './restore.js';
import { run as restore } from './restore.js';

export interface VmaRestoreFlags extends RestoreFlags {
  readonly live?: boolean;
  readonly socket?: string;
  readonly state?: string;
  readonly speed?: string;
  readonly exitWhenDone?: boolean;
}

const ONLY_LIVE = ['socket', 'state', 'speed', 'exitWhenDone'] as const;

export async function run(context: Context, name: string, flags: VmaRestoreFlags): Promise<ExitStatus> {
  if (flags.live === true) {
    throw new FailedError('not-yet', 'live restore comes with a later version', {
      advice: 'Without --live it restores now; start the guest afterwards.',
    });
  }
  const stray = ONLY_LIVE.find((flag) => flags[flag] !== undefined);
  if (stray === undefined) return await restore(context, name, flags);
  const option = `--${stray === 'exitWhenDone' ? 'exit-when-done' : stray}`;
  throw new UsageError('needs-live', 'the option makes sense only with --live', { object: option });
}
