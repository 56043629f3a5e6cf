// SPDX-License-Identifier: MIT
// vma-restore --live

import { REAL_CLOCK } from '../../base/clock.js';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import { readBootId } from '../../live/boot-id.js';
import { type LiveOutcome, liveRestore } from '../../live/live-restore.js';
import type { Context } from '../context.js';
import { LiveReport } from '../live-report.js';
import { openLiveSource } from '../live-source.js';
import { openMover } from '../live-switch.js';
import { type LiveFlags, parseLive } from '../live-wish.js';

export async function run(context: Context, name: string, flags: LiveFlags): Promise<ExitStatus> {
  const wish = parseLive(flags);
  const { source, release, close } = await openLiveSource(context, name, wish);
  try {
    const report = new LiveReport(context, wish.socketPath);
    const stop = new AbortController();
    const bootId = await readBootId();
    const outcome = await context.interrupts.during(
      () => stop.abort(),
      () =>
        liveRestore(source, {
          ...{ ...wish, ...wish.restore, bootId, clock: REAL_CLOCK, log: context.log, signal: stop.signal },
          mover: wish.guest && openMover(wish.guest, report),
          onEvent: (event) => {
            report.tell(event);
            if (event.kind === 'done') void release();
          },
        }),
    );
    const status = exitStatus(outcome);
    report.end(outcome, status);
    return status;
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
