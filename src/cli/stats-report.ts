// SPDX-License-Identifier: MIT
// What vmar stats prints.

import { type PeriodLength, type PeriodStats, ratioOf } from '../archive/stats/periods.js';
import type { Amounts, StoreStats } from '../archive/stats/stats.js';
import { formatBackupId, formatGuest } from '../store/backup-id.js';
import { counted, humanRatio, humanSize } from './human.js';
import type { Output } from './output.js';
import { type Column, renderTable } from './table.js';

/** Rows of the table of periods; --json has them all. */
const MOST_PERIODS = 31;

export function statsDocument(stats: StoreStats, periods: readonly PeriodStats[]) {
  const { packs, unusedBytes, missingChunks, lost, damagedManifests, damagedPacks } = stats;
  const damaged = [
    ...damagedManifests.map(({ ref, path, error }) => ({
      ...{ backup: formatBackupId(ref), file: path, message: error.message },
    })),
    ...damagedPacks.map(({ file, problem }) => ({ file, message: problem })),
    ...lost.map(({ ref, disk, error }) => ({ backup: formatBackupId(ref), disk, message: error.message })),
  ];
  return {
    backups: stats.backups.length,
    ...amounts(stats),
    packs,
    unused: unusedBytes,
    guests: stats.guests.map((guest) => ({
      ...{ guest: formatGuest(guest.guest), backups: guest.backups, ...amounts(guest), alone: guest.aloneBytes },
    })),
    periods: periods.map(periodDocument),
    ...(missingChunks === 0 ? {} : { missingChunks }),
    ...(damaged.length === 0 ? {} : { damaged }),
  };
}

function amounts(of: Amounts) {
  const { sizeBytes, logicalBytes, uniqueBytes, storedBytes } = of;
  const sums = { size: sizeBytes, logical: logicalBytes, unique: uniqueBytes, stored: storedBytes };
  return { ...sums, ...ratioDocument(of) };
}

function ratioDocument(of: { logicalBytes: number; storedBytes: number }): { ratio?: number } {
  const ratio = ratioOf(of);
  return ratio === undefined ? {} : { ratio: Math.round(ratio * 100) / 100 };
}

function periodDocument({ period, backups, logicalBytes, newBytes, newStoredBytes, untilThen }: PeriodStats) {
  return {
    ...{ period, backups, logical: logicalBytes, new: newBytes, newStored: newStoredBytes },
    total: {
      backups: untilThen.backups,
      logical: untilThen.logicalBytes,
      unique: untilThen.uniqueBytes,
      stored: untilThen.storedBytes,
      ...ratioDocument(untilThen),
    },
  };
}

export function statsText(
  { paint, quiet }: Output,
  stats: StoreStats,
  periods: readonly PeriodStats[],
  length: PeriodLength,
): string {
  if (stats.backups.length === 0) return quiet ? '' : 'no backups';
  const columns: Column[] = [{ title: 'guest' }, ...['backups', ...AMOUNTS, 'alone'].map(right)];
  const rows = stats.guests.map((guest) => [
    ...[formatGuest(guest.guest), String(guest.backups), ...amountCells(guest), humanSize(guest.aloneBytes)],
  ]);
  const total = ['all', String(stats.backups.length), ...amountCells(stats), ''];
  const guests = renderTable(paint, columns, [...rows, total]);
  const growth = growthTable(paint, periods, length);
  const { packs, unusedBytes } = stats;
  const unused = `${humanSize(unusedBytes)} of it needed by no backup, or tables`;
  return [guests, '', growth, '', `${counted(packs.packs, 'pack')} of ${humanSize(packs.bytes)}, ${unused}`].join('\n');
}

const AMOUNTS = ['size', 'logical', 'unique', 'stored', 'ratio'];

function amountCells(of: Amounts): string[] {
  const sizes = [of.sizeBytes, of.logicalBytes, of.uniqueBytes, of.storedBytes].map(humanSize);
  return [...sizes, humanRatio(ratioOf(of))];
}

function growthTable(paint: Output['paint'], periods: readonly PeriodStats[], length: PeriodLength): string {
  const titles = ['backups', 'logical', 'new', 'stored', 'stored in all', 'ratio in all'];
  const rows = periods
    .slice(-MOST_PERIODS)
    .map(({ period, backups, untilThen, ...own }) => [
      period,
      String(backups),
      ...[own.logicalBytes, own.newBytes, own.newStoredBytes, untilThen.storedBytes].map(humanSize),
      humanRatio(ratioOf(untilThen)),
    ]);
  const table = renderTable(paint, [{ title: length }, ...titles.map(right)], rows);
  const earlier = periods.length - rows.length;
  return earlier === 0 ? table : `${table}\n(the last ${MOST_PERIODS} of ${periods.length}; --json has all)`;
}

function right(title: string): Column {
  return { title, align: 'right' };
}
