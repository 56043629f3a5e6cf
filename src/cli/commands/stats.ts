// SPDX-License-Identifier: MIT
// vmar stats

import { relative, resolve } from 'node:path';
import { byPeriod, PERIODS, type PeriodLength } from '../../archive/stats/periods.js';
import { collectStats, type StoreStats } from '../../archive/stats/stats.js';
import { EXIT, type ExitStatus, UsageError } from '../../base/errors.js';
import { formatBackupId, formatGuest } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import type { Context } from '../context.js';
import { findGuests } from '../find-guests.js';
import { counted } from '../human.js';
import { withStore } from '../open-store.js';
import { printable } from '../printable.js';
import { Progress } from '../progress.js';
import { statsDocument, statsText } from '../stats-report.js';

export interface StatsFlags {
  readonly by?: string;
  readonly metrics?: string;
}

export async function run(context: Context, names: readonly string[], flags: StatsFlags): Promise<ExitStatus> {
  const length = parsePeriod(flags.by ?? 'day');
  return await withStore(context, async (store) => {
    const chosen = new Set((await findGuests(store.root, names)).map(formatGuest));
    const all = await collect(context, store);
    if (flags.metrics !== undefined) {
      const { writeStatsMetrics } = await import('../metrics/stats-metrics.js');
      await writeStatsMetrics(flags.metrics, resolve(store.root), all);
    }
    const stats = { ...all, guests: all.guests.filter(({ guest }) => chosen.has(formatGuest(guest))) };
    const periods = byPeriod(stats.backups, length);
    context.output.result(
      () => statsDocument(stats, periods),
      () => statsText(context.output, stats, periods, length),
    );
    return warn(context, store, stats) ? EXIT.damage : EXIT.done;
  });
}

export async function collect(context: Context, store: Datastore): Promise<StoreStats> {
  const stop = new AbortController();
  const progress = new Progress(context.output, 'counting');
  const options = {
    signal: stop.signal,
    onMore: (bytes: number) => progress.addTotal(bytes),
    onProgress: (bytes: number) => progress.add(bytes),
  };
  try {
    return await context.interrupts.during(
      () => stop.abort(),
      () => collectStats(store, options),
    );
  } finally {
    progress.end();
  }
}

function parsePeriod(text: string): PeriodLength {
  const length = (Object.keys(PERIODS) as PeriodLength[]).find((name) => name === text);
  if (length !== undefined) return length;
  throw new UsageError('bad-period', 'this is not a span to count by', {
    object: `--by ${text}`,
    expected: Object.keys(PERIODS).join(', '),
  });
}

const SHOWN = 20;

/** Whether there was damage: the figures are too low by it. */
function warn({ log }: Context, { root }: Datastore, stats: StoreStats): boolean {
  const { damagedManifests, damagedPacks, lost, missingChunks } = stats;
  const warnings = [
    ...damagedManifests.map(({ path, error }) => `${path}: ${error.message}; it is not counted`),
    ...damagedPacks.map(({ file, problem }) => `${relative(root, file)} is damaged: ${problem}`),
    ...lost.map(({ ref, disk, error }) => `${formatBackupId(ref)}:${disk} is not wholly counted: ${error.message}`),
  ];
  for (const text of warnings.slice(0, SHOWN)) log.warn(printable(text));
  if (warnings.length > SHOWN) log.warn(`and ${warnings.length - SHOWN} more (see \`vmar verify\`)`);
  if (missingChunks > 0) log.warn(`${counted(missingChunks, 'chunk')} that backups need cannot be found`);
  return warnings.length > 0 || missingChunks > 0;
}
