// SPDX-License-Identifier: MIT
// vma-restore --live

import { availableParallelism } from 'node:os';
import { REAL_CLOCK } from '../../base/clock.js';
import { EXIT, type ExitStatus } from '../../base/errors.js';
import { readBootId } from '../../live/boot-id.js';
import { type LiveOutcome, liveRestore } from '../../live/live-restore.js';
import { createExecutor } from '../../pipeline/executor.js';
import type { Context } from '../context.js';
import { LiveReport } from '../live-report.js';
import { type LiveFlags, parseLive, planLive } from '../live-wish.js';
import { openNamedBackup } from '../open-named-backup.js';

export async function run(context: Context, name: string, flags: LiveFlags): Promise<ExitStatus> {
  const wish = parseLive(flags);
  const { backup, close } = await openNamedBackup(context, name);
  const { manifest } = backup;
  const executor = createExecutor({
    workers: wish.workers ?? availableParallelism(),
    hash: manifest.hash,
    level: 1,
    clusterSizeBytes: manifest.disks[0]?.clusterSizeBytes ?? 0,
    pools: [],
  });
  try {
    const report = new LiveReport(context, wish.socketPath);
    const stop = new AbortController();
    const bootId = await readBootId();
    const outcome = await context.interrupts.during(
      () => stop.abort(),
      () =>
        liveRestore(backup, planLive(manifest, wish), {
          ...{ ...wish, ...wish.restore, executor, bootId, clock: REAL_CLOCK, log: context.log, signal: stop.signal },
          onEvent: (event) => {
            report.tell(event);
            // A session would keep the backup's chunks from being collected, for as long as the guest stays.
            if (event.kind === 'done') void close();
          },
        }),
    );
    const status = exitStatus(outcome);
    report.end(outcome, status);
    return status;
  } finally {
    await executor.close();
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
