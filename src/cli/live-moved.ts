// SPDX-License-Identifier: MIT
// The same command after its process was killed while it moved the guest: what is left to be done of it.

import { resolve } from 'node:path';
import { REAL_CLOCK } from '../base/clock.js';
import { findState } from '../live/found-state.js';
import { findMoved, finishMoved } from '../live/switch/moved-before.js';
import type { Context } from './context.js';
import type { LiveReport } from './live-report.js';
import { isCompleteOf } from './live-source.js';
import { switchHost } from './live-switch.js';
import { type LiveWish, stateWishes } from './live-wish.js';

/** What of the wish is to be restored or moved still; undefined: the guest is on all of its targets. */
export async function withoutMoved(
  { log }: Context,
  name: string,
  wish: LiveWish,
  report: LiveReport,
  signal: AbortSignal,
): Promise<LiveWish | undefined> {
  if (wish.guest === undefined) return wish;
  const wishes = await stateWishes(wish);
  const begun = await Promise.all(
    wishes.map(async (one) => {
      const state = await findState(one);
      const complete = isCompleteOf(name, one, state) ? state : undefined;
      const facts = { name: complete?.backup.disk ?? one.disk, statePath: complete?.path };
      return { given: one.disk, targetPath: resolve(one.target), ...facts };
    }),
  );
  if (!begun.some(({ statePath }) => statePath !== undefined)) return wish;
  const host = switchHost(wish.guest);
  const options = { socketPath: wish.socketPath, clock: REAL_CLOCK, log, signal };
  const moved = new Set(await findMoved(host, begun, options));
  if (moved.size === 0) return wish;
  await finishMoved(host, [...moved], options);
  report.tell({
    kind: 'switched',
    disks: [...moved].map((disk) => ({ disk: disk.name, node: undefined })),
    pausedMicros: 0,
  });
  const left = new Set(begun.filter((disk) => !moved.has(disk)).map(({ given }) => given));
  if (left.size === 0) return undefined;
  const { restore } = wish;
  return { ...wish, restore: { ...restore, disks: restore.disks.filter((disk) => left.has(disk.name)) } };
}
