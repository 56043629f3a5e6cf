// SPDX-License-Identifier: MIT
// Gathers what the report tells, as one reader of the datastore.

import { relative, resolve } from 'node:path';
import { changesOfGuest, type DiskChanges } from '../../archive/stats/changes.js';
import { OpenMaps } from '../../archive/stats/open-maps.js';
import { byPeriod, type PeriodLength } from '../../archive/stats/periods.js';
import { countStats, type StatsOptions, type StoreStats } from '../../archive/stats/stats.js';
import { WRITER_NAME } from '../../archive/writer-name.js';
import { InterruptedError } from '../../base/errors.js';
import { makeCalendar } from '../../nightly/calendar.js';
import type { NightlyConfig } from '../../nightly/config.js';
import { GRACE_MILLIS, type GuestHealth } from '../../nightly/guest-health.js';
import { isUnderWay, readHistory, type SeenReport } from '../../nightly/history.js';
import { type BackupRef, formatBackupId, formatGuest, sameGuest } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import { listManifestNames } from '../../store/manifest-tree.js';
import { listManifests, type StoredManifest } from '../../store/manifests.js';
import { localPeriodOf } from '../../store/prune-periods.js';
import { counted } from '../human.js';
import { readHealth } from '../read-health.js';
import type { ReportData } from './report-data.js';

export interface ReportWish extends StatsOptions {
  readonly days: number;
  readonly config: NightlyConfig | undefined;
  readonly mostAgeSeconds?: number;
}

const MOST_REGIONS = 96;
/** Points of a curve: days, or if that is too many weeks, or months. */
const MOST_POINTS = 200;

/** @throws InterruptedError */
export async function gatherReport(store: Datastore, wish: ReportWish): Promise<ReportData> {
  const session = await store.beginSession('read');
  let maps: OpenMaps | undefined;
  try {
    const manifests = await listManifests(store.root);
    maps = await OpenMaps.open(store, wish.signal);
    const stats = await countStats(maps, manifests, wish);
    const nowMillis = Date.now();
    const { config, mostAgeSeconds } = wish;
    const age = mostAgeSeconds === undefined ? {} : { mostAgeSeconds };
    const { guests: judged, verified } = await readHealth(store, { names: [], config, nowMillis, ...age });
    const guests = judged.map((guest) => withLost(guest, stats));
    const entries = grouped(manifests.entries);
    const changes: DiskChanges[] = [];
    const options = { mostBackups: wish.days, mostRegions: MOST_REGIONS, ...signalOf(wish) };
    for (const { guest } of guests) {
      const nights = lastOfDays(entries.get(formatGuest(guest)) ?? []);
      changes.push(...(await changesOfGuest(maps, nights, options)));
    }
    const { runs, damage } = await readRuns(store);
    const names = grouped((await listManifestNames(store.root)).backups.map((ref) => ({ ref })));
    const refs = [...names.values()].flat().map(({ ref }) => ref);
    const damaged = new Set(refs.filter((ref) => verified.isDamaged({ ref })).map(formatBackupId));
    for (const { ref } of [...stats.damagedManifests, ...stats.lost]) damaged.add(formatBackupId(ref));
    const calendar = makeCalendar({
      guests: guests.map(({ guest, schedules }) => {
        const backups = (names.get(formatGuest(guest)) ?? []).map(({ ref }) => ref);
        return { guest, schedules, backups };
      }),
      ...{ reports: runs, damaged, nowMillis, graceMillis: GRACE_MILLIS, days: wish.days },
    });
    const facts = { datastore: resolve(store.root), madeMillis: nowMillis, program: WRITER_NAME };
    const all = [...damageOf(store, stats, guests), ...damage];
    return {
      ...facts,
      guests,
      calendar,
      stats,
      periods: periodsOf(stats),
      changes,
      runs,
      failedRuns: failedOf(runs, wish),
      damage: all,
    };
  } catch (error) {
    throw wish.signal?.aborted === true ? new InterruptedError() : error;
  } finally {
    maps?.close();
    await session.end();
  }
}

function signalOf({ signal }: ReportWish): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

/** By guest; in the order that they have. */
function grouped<Entry extends { readonly ref: BackupRef }>(entries: readonly Entry[]): Map<string, Entry[]> {
  const guests = new Map<string, Entry[]>();
  for (const entry of entries) {
    const name = formatGuest(entry.ref);
    const known = guests.get(name);
    if (known === undefined) guests.set(name, [entry]);
    else known.push(entry);
  }
  return guests;
}

/** With the older backups that are found damaged only when all manifests and maps are read. */
function withLost(guest: GuestHealth, { damagedManifests, lost }: StoreStats): GuestHealth {
  const lastSeconds = guest.last?.ref.timeSeconds ?? 0;
  const older = [...damagedManifests, ...lost]
    .map(({ ref }) => ref)
    .filter((ref) => sameGuest(ref, guest.guest) && ref.timeSeconds < lastSeconds);
  const all = new Map([...guest.olderDamaged, ...older].map((ref) => [ref.timeSeconds, ref]));
  return { ...guest, olderDamaged: [...all.values()].sort((a, b) => a.timeSeconds - b.timeSeconds) };
}

/** The last backup of each day. */
function lastOfDays(entries: readonly StoredManifest[]): StoredManifest[] {
  const days = new Map(entries.map((entry) => [localPeriodOf('daily', entry.ref.timeSeconds), entry]));
  return [...days.values()];
}

function periodsOf(stats: StoreStats): ReportData['periods'] {
  for (const length of ['day', 'week', 'month'] satisfies PeriodLength[]) {
    const periods = byPeriod(stats.backups, length);
    if (periods.length <= MOST_POINTS) return periods;
  }
  return byPeriod(stats.backups, 'year');
}

async function readRuns(store: Datastore): Promise<{ runs: SeenReport[]; damage: string[] }> {
  const runs: SeenReport[] = [];
  const damage: string[] = [];
  const history = readHistory(store, ({ path, error }) =>
    damage.push(`${relative(store.root, path)}: ${error.message}`),
  );
  for await (const run of history) runs.push(run);
  return { runs, damage };
}

const DAY_MILLIS = 86_400_000;

/** Of the runs that have ended; one that somebody interrupted has not failed. `runs` are ordered, the newest first. */
function failedOf(runs: readonly SeenReport[], { config, days }: ReportWish): SeenReport[] {
  const last = new Map<string, SeenReport>();
  for (const run of runs) if (!isUnderWay(run.outcome) && !last.has(run.job)) last.set(run.job, run);
  return [...last.values()].filter(({ job, outcome, startedMillis }) => {
    const isOld = startedMillis < Date.now() - days * DAY_MILLIS;
    return outcome !== 'ok' && outcome !== 'interrupted' && !isOld && (config === undefined || config.jobs.has(job));
  });
}

/** What is damaged and not told of with a guest. */
function damageOf({ root }: Datastore, stats: StoreStats, guests: readonly GuestHealth[]): string[] {
  const told = new Set(
    guests.flatMap(({ damaged, olderDamaged }) =>
      [...damaged.map(({ ref }) => ref), ...olderDamaged].map((ref) => formatBackupId(ref)),
    ),
  );
  const { damagedManifests, damagedPacks, lost, missingChunks } = stats;
  const isNew = ({ ref }: { readonly ref: BackupRef }): boolean => !told.has(formatBackupId(ref));
  return [
    ...damagedManifests.filter(isNew).map(({ ref, error }) => `${formatBackupId(ref)}: ${error.message}`),
    ...lost.filter(isNew).map(({ ref, disk, error }) => `${formatBackupId(ref)}, ${disk}: ${error.message}`),
    ...damagedPacks.map(({ file, problem }) => `${relative(root, file)}: ${problem}`),
    ...(missingChunks > 0 ? [`${counted(missingChunks, 'chunk')} that backups need cannot be found`] : []),
  ];
}
