// SPDX-License-Identifier: MIT
// vma-restore --live

import { REAL_CLOCK } from '../../base/clock.js';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import { readBootId } from '../../live/boot-id.js';
import { type LiveOutcome, liveRestore } from '../../live/live-restore.js';
import type { Context } from '../context.js';
import { withoutMoved } from '../live-moved.js';
import { LiveReport } from '../live-report.js';
import { openLiveSource } from '../live-source.js';
import { checkMonitor, openMover } from '../live-switch.js';
import { type LiveFlags, type LiveWish, parseLive } from '../live-wish.js';

export async function run(context: Context, name: string, flags: LiveFlags): Promise<ExitStatus> {
  const wish = parseLive(flags);
  if (wish.guest !== undefined) await checkMonitor(wish.guest);
  const report = new LiveReport(context, wish.socketPath);
  const stop = new AbortController();
  const outcome = await context.interrupts.during(
    () => stop.abort(),
    async (): Promise<LiveOutcome> => {
      const left = await withoutMoved(context, name, wish, report, stop.signal);
      return left === undefined ? { kind: 'done' } : await restore(context, name, left, report, stop.signal);
    },
  );
  const status = exitStatus(outcome);
  report.end(outcome, status);
  return status;
}

async function restore(
  context: Context,
  name: string,
  wish: LiveWish,
  report: LiveReport,
  signal: AbortSignal,
): Promise<LiveOutcome> {
  const { source, release, close } = await openLiveSource(context, name, wish);
  try {
    return await liveRestore(source, {
      ...{ ...wish, ...wish.restore, bootId: await readBootId(), clock: REAL_CLOCK, log: context.log, signal },
      mover: wish.guest && openMover(wish.guest, report),
      onEvent: (event) => {
        report.tell(event);
        if (event.kind === 'done') void release();
      },
    });
  } finally {
    await close();
  }
}

function exitStatus(outcome: LiveOutcome): ExitStatus {
  switch (outcome.kind) {
    case 'done':
      return EXIT.done;
    case 'damaged':
      return EXIT.damage;
    case 'interrupted':
      return EXIT.interrupted;
    case 'failed':
      return EXIT.failed;
  }
}
