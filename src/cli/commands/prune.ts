// SPDX-License-Identifier: MIT
// vmar prune

import { formatTime } from '../../../formats/vmar/names.js';
import { BugError, EXIT, type ExitStatus, VmarError } from '../../base/errors.js';
import { formatBackupId, formatGuest, type GuestRef } from '../../store/backup-id.js';
import type { Datastore } from '../../store/datastore.js';
import type { DamagedManifest } from '../../store/manifests.js';
import { type GuestPlan, planGuest, pruneGuest } from '../../store/prune.js';
import { localPeriodOf } from '../../store/prune-periods.js';
import type { Keep, PlannedBackup, PruneDecision } from '../../store/prune-plan.js';
import type { Context } from '../context.js';
import { findGuests } from '../find-guests.js';
import { counted, humanTime } from '../human.js';
import { type KeepFlags, readKeep } from '../keep-wish.js';
import { withStore } from '../open-store.js';
import { parseWait } from '../parse-count.js';
import { renderTable } from '../table.js';

export interface PruneFlags extends KeepFlags {
  readonly dryRun?: boolean;
  readonly wait?: string | true;
}

interface Pruned {
  readonly keep: Keep;
  readonly isDryRun: boolean;
  readonly plans: readonly GuestPlan[];
  readonly failed: readonly FailedGuest[];
}

/** Some of its backups may be gone where the error is one of removing them. */
interface FailedGuest {
  readonly guest: GuestRef;
  readonly error: VmarError;
}

/** Each guest by itself: one that is busy, or cannot be read, does not keep the others from being pruned. */
export async function run(context: Context, names: readonly string[], flags: PruneFlags): Promise<ExitStatus> {
  const keep = readKeep(flags);
  const isDryRun = flags.dryRun === true;
  const waitSeconds = parseWait(flags.wait);
  return await withStore(context, async (store) => {
    if (!isDryRun) store.checkWritable();
    const guests = await findGuests(store.root, names);
    const pruned = await pruneAll(store, guests, keep, { isDryRun, waitSeconds });
    tell(context, pruned);
    const damaged = pruned.plans.flatMap((plan) => plan.damaged);
    if (damaged.length > 0) return EXIT.damage;
    return pruned.failed[0]?.error.exitStatus ?? EXIT.done;
  });
}

async function pruneAll(
  store: Datastore,
  guests: readonly GuestRef[],
  keep: Keep,
  { isDryRun, waitSeconds }: { readonly isDryRun: boolean; readonly waitSeconds: number },
): Promise<Pruned> {
  const options = { nowSeconds: Date.now() / 1000, periodOf: localPeriodOf, waitSeconds };
  const plans: GuestPlan[] = [];
  const failed: FailedGuest[] = [];
  for (const guest of guests) {
    try {
      const plan = isDryRun
        ? await planGuest(store.root, guest, keep, options)
        : await pruneGuest(store, guest, keep, options);
      plans.push(plan);
    } catch (error) {
      if (!(error instanceof VmarError) || error instanceof BugError) throw error;
      failed.push({ guest, error });
    }
  }
  return { keep, isDryRun, plans, failed };
}

function tell(context: Context, pruned: Pruned): void {
  const { output, log } = context;
  const show = pruned.isDryRun ? output.result.bind(output) : output.summary.bind(output);
  show(
    () => asDocument(pruned),
    () => asText(context, pruned),
  );
  for (const { path, error } of pruned.plans.flatMap((plan) => plan.damaged)) {
    log.warn(`${path}: ${error.message}; the backup stays`);
  }
  for (const { guest, error } of pruned.failed) log.warn(`${formatGuest(guest)} was not pruned: ${error.message}`);
  for (const { guest, backups } of pruned.plans) {
    if (!backups.some(({ decision }) => decision.why === 'newest-past')) continue;
    log.warn(`${formatGuest(guest)} has backups with times in the future, which count as its newest`);
  }
}

function asDocument({ keep, isDryRun, plans, failed }: Pruned) {
  const backups = plans.flatMap((plan) => plan.backups);
  const damaged = plans.flatMap((plan) => plan.damaged);
  return {
    dryRun: isDryRun,
    timeZone: timeZone(),
    rules: keep === 'all' ? { all: true } : keep,
    backups: backups.map(({ ref, decision: { keep: isKept, why, ...facts } }) => ({
      backup: formatBackupId(ref),
      guest: formatGuest(ref),
      time: formatTime(ref.timeSeconds),
      keep: isKept,
      why,
      ...facts,
    })),
    kept: backups.filter(({ decision }) => decision.keep).length,
    removed: backups.filter(({ decision }) => !decision.keep).map(({ ref }) => formatBackupId(ref)),
    ...(damaged.length === 0 ? {} : { damaged: damaged.map(damagedDocument) }),
    ...(failed.length === 0 ? {} : { failed: failed.map(failedDocument) }),
  };
}

function damagedDocument({ ref, path, error }: DamagedManifest) {
  return { backup: formatBackupId(ref), file: path, message: error.message };
}

function failedDocument({ guest, error }: FailedGuest) {
  return { guest: formatGuest(guest), code: error.code, message: error.message };
}

function timeZone(): string {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}

function asText({ output }: Context, { isDryRun, plans, failed }: Pruned): string {
  const backups = plans.flatMap((plan) => plan.backups);
  if (backups.length === 0) return output.quiet || failed.length > 0 ? '' : 'no backups';
  const columns = [{ title: 'backup' }, { title: 'time' }, { title: '' }, { title: 'why' }];
  const rows = backups.map((backup) => {
    const row = rowOf(backup);
    return backup.decision.keep ? row : row.map((cell) => output.paint('red', cell));
  });
  const going = backups.filter(({ decision }) => !decision.keep).length;
  const sum = isDryRun
    ? `${counted(going, 'backup')} would go, ${backups.length - going} stay; nothing was removed`
    : `${counted(going, 'backup')} went, ${backups.length - going} stay; gc frees their space`;
  return [renderTable(output.paint, columns, rows), '', `${sum} (times of ${timeZone()})`].join('\n');
}

function rowOf({ ref, decision }: PlannedBackup): string[] {
  const verdict = decision.keep ? 'stays' : 'goes';
  return [formatBackupId(ref), humanTime(ref.timeSeconds), verdict, reason(decision)];
}

function reason(decision: PruneDecision): string {
  switch (decision.why) {
    case 'rule': {
      const { rule, period, index, of } = decision;
      return rule === 'last' ? `last ${index} of ${of}` : `${rule} ${period} (${index} of ${of})`;
    }
    case 'all':
      return 'all are kept';
    case 'protected':
      return 'protected';
    case 'damaged':
      return 'damaged: cannot be judged';
    case 'newest-past':
      return 'newest that is not in the future';
    case 'not-newest':
      return `not the newest of ${decision.rule} ${decision.period}`;
    case 'no-rule':
      return 'kept by no rule';
  }
}
