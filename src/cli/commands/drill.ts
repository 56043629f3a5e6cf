// SPDX-License-Identifier: MIT
// vmar drill

import { createReader } from '../../archive/copy-backup.js';
import { EXIT, type ExitStatus, InterruptedError, VmarError } from '../../base/errors.js';
import { type DrillResult, drillBackup } from '../../live/drill/drill.js';
import type { Context } from '../context.js';
import { keepDrillReport, tellDrill } from '../drill-report.js';
import { type DrillFlags, type DrillWish, parseDrill } from '../drill-wish.js';
import { humanDuration } from '../human.js';
import { type OpenBackup, withBackups } from '../open-named-backup.js';
import { describeError } from '../render-error.js';
import { secondsSinceStart } from '../seconds.js';
import { Waiting } from '../waiting.js';

export type { DrillFlags } from '../drill-wish.js';

export async function run(context: Context, name: string, flags: DrillFlags): Promise<ExitStatus> {
  const wish = parseDrill(flags);
  const startedMillis = Date.now();
  return await withBackups(context, [name], async ([opened]) => {
    const backup = opened!;
    const stop = new AbortController();
    let result: DrillResult | undefined;
    let error: VmarError | undefined;
    try {
      result = await context.interrupts.during(
        () => stop.abort(),
        () => drill(context, backup, wish, stop.signal),
      );
    } catch (caught) {
      if (!(caught instanceof VmarError) || caught instanceof InterruptedError) throw caught;
      error = caught;
    }
    const problem = error === undefined ? undefined : describeError(error);
    if (wish.isReported) await keepDrillReport(context, backup, result, problem, startedMillis);
    if (error !== undefined) throw error;
    if (result === undefined) return EXIT.failed;
    return tellDrill(context, backup, wish.drill.kind, result, secondsSinceStart());
  });
}

async function drill(context: Context, backup: OpenBackup, wish: DrillWish, signal: AbortSignal): Promise<DrillResult> {
  const executor = createReader(backup, wish.workers);
  const waiting = new Waiting(context.output, (passed) => waitingText(wish, passed));
  try {
    return await drillBackup(backup, {
      ...{ action: wish.drill, disks: wish.disks, executor, signal, log: context.log },
      temporaryDirectory: context.temporaryDirectory,
      workDirectory: wish.workDirectory,
    });
  } finally {
    waiting.end();
    await executor.close();
  }
}

/** "booting: 35 s of at most 10 min 0 s" */
function waitingText({ drill }: DrillWish, passed: string): string {
  const [doing, seconds] =
    drill.kind === 'boot' ? ['booting', drill.boot.timeoutSeconds] : ['checking file systems', drill.timeoutSeconds];
  return `${doing}: ${passed}${Number.isFinite(seconds) ? ` of at most ${humanDuration(seconds)}` : ''}`;
}
