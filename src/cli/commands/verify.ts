// SPDX-License-Identifier: MIT
// vmar verify

import { basename, relative } from 'node:path';
import { formatTime } from '../../../formats/vmar/names.js';
import { type Checked, type DamageRecord, nothingChecked, type VerifyReport } from '../../archive/verify/damage.js';
import { verifyArchive } from '../../archive/verify/verify-archive.js';
import { type VerifyOptions, verifyDatastore } from '../../archive/verify/verify-datastore.js';
import type { ScheduleReport, VerifySchedule } from '../../archive/verify/verify-schedule.js';
import { DamageError, EXIT, type ExitStatus, UsageError } from '../../base/errors.js';
import type { Datastore } from '../../store/datastore.js';
import type { Context } from '../context.js';
import { counted, humanDuration, humanRate, humanSize, humanTime } from '../human.js';
import { openStore } from '../open-store.js';
import { isArchiveName, isForeignArchive } from '../parse-backup-name.js';
import { parseWorkers } from '../parse-count.js';
import { parseDuration } from '../parse-duration.js';
import { printable } from '../printable.js';
import { Progress } from '../progress.js';
import { secondsSinceStart } from '../seconds.js';

export interface VerifyFlags {
  readonly quick?: boolean;
  readonly portable?: boolean;
  readonly olderThan?: string;
  readonly budget?: string;
  readonly workers?: string;
  readonly list?: boolean;
}

type ScheduledReport = VerifyReport & { readonly schedule?: ScheduleReport };

export async function run(context: Context, names: readonly string[], flags: VerifyFlags): Promise<ExitStatus> {
  if (flags.list === true) {
    await listPacks(context, names, flags);
    return EXIT.done;
  }
  const foreign = names.filter(isForeignArchive);
  const ours = names.filter((name) => !isForeignArchive(name));
  const archives = ours.filter(isArchiveName);
  const backups = ours.filter((name) => !isArchiveName(name));
  const schedule = parseSchedule(flags, [...foreign, ...archives]);
  const stop = new AbortController();
  const workers = parseWorkers(flags.workers);
  const progress = new Progress(context.output, 'verifying');
  const options: VerifyOptions = {
    mode: flags.quick === true ? 'quick' : 'full',
    portable: flags.portable === true,
    ...(schedule === undefined ? {} : { schedule }),
    ...workers,
    signal: stop.signal,
    onStart: (bytes) => progress.addTotal(bytes),
    onProgress: (bytes) => progress.add(bytes),
  };
  const work = async (): Promise<ScheduledReport[]> => {
    const reports: ScheduledReport[] = [];
    if (backups.length > 0 || names.length === 0) {
      reports.push(await verifyStore(context, backups.length > 0 ? { ...options, backups } : options));
    }
    for (const path of archives) reports.push(await verifyArchive(path, options));
    for (const path of foreign) reports.push(await verifyForeign(path, options));
    return reports;
  };
  let reports: ScheduledReport[];
  try {
    reports = await context.interrupts.during(() => stop.abort(), work);
  } finally {
    progress.end();
  }
  return tell(context, sum(reports), secondsSinceStart());
}

async function listPacks(context: Context, names: readonly string[], flags: VerifyFlags): Promise<void> {
  const reading = (['quick', 'portable', 'budget', 'workers'] as const).find((flag) => flags[flag] !== undefined);
  if (reading !== undefined) {
    throw new UsageError('not-together', '--list reads no pack', { object: `--list --${reading}` });
  }
  const { olderThan } = flags;
  const olderThanMillis = olderThan === undefined ? undefined : parseDuration(olderThan, '--older-than') * 1000;
  const { printPacks } = await import('../pack-report.js');
  await printPacks(context, { names, olderThanMillis });
}

async function verifyForeign(path: string, options: VerifyOptions): Promise<VerifyReport> {
  const { verifyVma } = await import('../../archive/import/verify-vma.js');
  return await verifyVma(path, options);
}

async function verifyStore(context: Context, options: VerifyOptions): Promise<ScheduledReport> {
  let store: Datastore;
  try {
    store = await openStore(context);
  } catch (error) {
    if (error instanceof DamageError) return damagedSuperblock(error);
    throw error;
  }
  try {
    const report = await verifyDatastore(store, options);
    const damage = report.damage.map((record) => ({ ...record, file: relativeTo(store.root, record.file) }));
    return { ...report, damage };
  } finally {
    await store.close();
  }
}

/** Without it nothing can be read, and nobody knows what else is damaged. */
function damagedSuperblock({ object = '', offsetBytes = 0, message }: DamageError): VerifyReport {
  const record = { file: basename(object), offsetBytes, lengthBytes: 0, kind: 'superblock' as const, problem: message };
  return { checked: nothingChecked(), damage: [{ ...record, backups: new Set(), disks: new Set() }] };
}

function relativeTo(root: string, file: string): string {
  const inside = relative(root, file);
  return inside.startsWith('..') || inside === '' ? file : inside;
}

function sum(reports: readonly ScheduledReport[]): ScheduledReport {
  const checked: Checked = nothingChecked();
  for (const report of reports) {
    for (const key of Object.keys(checked) as (keyof Checked)[]) checked[key] += report.checked[key];
  }
  const [first] = reports;
  const schedule = first?.schedule === undefined ? {} : { schedule: first.schedule };
  return { checked, damage: reports.flatMap((report) => report.damage), ...schedule };
}

function tell({ output }: Context, report: ScheduledReport, seconds: number): ExitStatus {
  const { checked, damage, schedule } = report;
  const isClean = damage.length === 0;
  const document = () => ({
    ...{ ok: isClean, checked, damage: damage.map(damageDocument) },
    ...(schedule === undefined ? {} : { schedule: scheduleDocument(schedule) }),
    seconds,
  });
  const left = schedule === undefined ? [] : [whatIsLeft(schedule)];
  if (isClean) {
    output.summary(document, () =>
      [`${output.paint('green', 'no damage')}: ${whatWasChecked(checked, seconds)}`, ...left].join('\n'),
    );
  } else {
    output.result(document, () => {
      const head = `${output.paint('red', 'DAMAGED')}: ${counted(damage.length, 'place')}; ${whatWasChecked(checked, seconds)}`;
      return [...damage.slice(0, SHOWN).map(damageText), ...moreThanShown(damage.length), head, ...left].join('\n');
    });
  }
  return isClean ? EXIT.done : EXIT.damage;
}

function scheduleDocument({ oldestMillis, isBudgetReached, ...schedule }: ScheduleReport) {
  const { packsRead, packsLeft, bytesLeft, backupsLeft, namesLeft } = schedule;
  return {
    ...{ packsRead, packsLeft, bytesLeft, backupsLeft, namesLeft, budgetReached: isBudgetReached },
    ...(oldestMillis === undefined ? {} : { oldest: formatTime(Math.floor(oldestMillis / 1000)) }),
  };
}

function whatIsLeft({ packsLeft, bytesLeft, backupsLeft, namesLeft, oldestMillis }: ScheduleReport): string {
  if (packsLeft + backupsLeft + namesLeft === 0) return 'nothing that is due remains';
  const packs = packsLeft === 0 ? [] : [`${counted(packsLeft, 'pack')} (${humanSize(bytesLeft)})`];
  const maps = backupsLeft === 0 ? [] : [`the maps of ${counted(backupsLeft, 'backup')}`];
  const names = namesLeft === 0 ? [] : [`whether the damage touches ${counted(namesLeft, 'more backup')}`];
  const since = oldestMillis === undefined ? 'some never read' : `read last ${humanTime(oldestMillis / 1000)} or later`;
  const remains = [...packs, ...maps, ...names].join(' and ');
  return `the budget is used up: ${remains} due for the next run${packsLeft > 0 ? `, ${since}` : ''}`;
}

function parseSchedule(flags: VerifyFlags, archives: readonly string[]): VerifySchedule | undefined {
  const { olderThan, budget } = flags;
  if (olderThan === undefined && budget === undefined) return undefined;
  if (flags.quick === true || archives.length > 0) {
    throw new UsageError('not-together', '--older-than and --budget read packs of a datastore whole', {
      object: flags.quick === true ? '--quick' : archives.join(' '),
      advice: 'Give them without --quick, and without names of archives.',
    });
  }
  return {
    olderThanMillis: olderThan === undefined ? 0 : parseDuration(olderThan, '--older-than') * 1000,
    budgetMillis: budget === undefined ? Number.POSITIVE_INFINITY : parseDuration(budget, '--budget') * 1000,
  };
}

function damageDocument({ file, offsetBytes, lengthBytes, kind, problem, backups, disks }: DamageRecord) {
  const place = { file, offset: offsetBytes, length: lengthBytes };
  return { ...place, kind, problem, backups: [...backups].sort(), disks: [...disks].sort() };
}

function whatWasChecked({ packs, chunks, clusters, backups, storedBytes }: Checked, seconds: number): string {
  const ours = packs + chunks > 0 || clusters === 0 ? [counted(packs, 'pack'), counted(chunks, 'chunk')] : [];
  const theirs = clusters > 0 ? [`${counted(clusters, 'cluster')} of .vma (their content has no checksum)`] : [];
  const what = [counted(backups, 'backup'), ...ours, ...theirs].join(', ');
  return `${what}; ${humanSize(storedBytes)} in ${humanDuration(seconds)} (${humanRate(storedBytes, seconds)})`;
}

const SHOWN = 100;

function damageText({ file, offsetBytes, lengthBytes, kind, problem, backups, disks }: DamageRecord): string {
  const place = `${printable(file)} at byte ${offsetBytes}${lengthBytes > 0 ? `, ${lengthBytes} bytes` : ''}`;
  const whom = disks.size > 0 ? disks : backups;
  const nobody = kind === 'superblock' ? 'every backup needs it' : 'no backup needs it';
  const needs = whom.size > 0 ? `needed by ${[...whom].sort().join(', ')}` : nobody;
  return `${place}: ${kind}: ${printable(problem)}\n  ${needs}`;
}

function moreThanShown(count: number): string[] {
  return count > SHOWN ? [`and ${count - SHOWN} more; --json lists them all`] : [];
}
