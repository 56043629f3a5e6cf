// SPDX-License-Identifier: MIT
// vma-restore: with --live the guest runs while it is restored; without, it is vmar restore.

import { type ExitStatus, UsageError } from '../../base/errors.js';
import type { Context } from '../context.js';
import type { LiveFlags } from '../live-wish.js';

export interface VmaRestoreFlags extends LiveFlags {
  readonly live?: boolean;
}

const ONLY_LIVE = ['socket', 'state', 'speed', 'exitWhenDone', 'qmp', 'libvirt'] as const;

/** Loads only what it needs: a guest waits for the one, and the other takes its time. */
export async function run(context: Context, name: string, flags: VmaRestoreFlags): Promise<ExitStatus> {
  if (flags.live === true) return await (await import('./live-restore.js')).run(context, name, flags);
  const stray = ONLY_LIVE.find((flag) => flags[flag] !== undefined);
  if (stray === undefined) return await (await import('./restore.js')).run(context, name, flags);
  const option = `--${stray === 'exitWhenDone' ? 'exit-when-done' : stray}`;
  throw new UsageError('needs-live', 'the option makes sense only with --live', { object: option });
}
