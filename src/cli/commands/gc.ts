// SPDX-License-Identifier: MIT
// vmar gc

import { relative } from 'node:path';
import { formatTime } from '../../../formats/vmar/names.js';
import { collectGarbage, type GcReport, type PlannedStep, type Tally } from '../../archive/gc/collect.js';
import { EXIT, type ExitStatus, UsageError } from '../../base/errors.js';
import { formatHolder, isOfThisHost } from '../../store/lock-holder.js';
import { abandonSession, type LivingSession } from '../../store/session.js';
import type { Context } from '../context.js';
import { counted, humanDuration, humanSize, humanTime } from '../human.js';
import { withStore } from '../open-store.js';
import { parseWorkers } from '../parse-count.js';
import { printable } from '../printable.js';
import { Progress } from '../progress.js';
import { secondsSinceStart } from '../seconds.js';

export interface GcFlags {
  readonly dryRun?: boolean;
  readonly maxUnused?: string;
  readonly abandonSession?: readonly string[];
  readonly workers?: string;
}

export async function run(context: Context, _args: undefined, flags: GcFlags): Promise<ExitStatus> {
  const mostUnused = parseShare(flags.maxUnused ?? '10%');
  const workers = parseWorkers(flags.workers);
  const isDryRun = flags.dryRun === true;
  const stop = new AbortController();
  const progress = new Progress(context.output, 'collecting');
  try {
    return await withStore(context, async (store) => {
      for (const id of flags.abandonSession ?? []) {
        const { holder } = await abandonSession(store, id);
        context.log.warn(`session ${id} was declared dead${holder === undefined ? '' : `: ${formatHolder(holder)}`}`);
      }
      const options = {
        ...{ mostUnused, isDryRun, ...workers, signal: stop.signal },
        onMore: (bytes: number) => progress.addTotal(bytes),
        onProgress: (bytes: number) => progress.add(bytes),
      };
      const report = await context.interrupts.during(
        () => stop.abort(),
        () => collectGarbage(store, options),
      );
      progress.end();
      tell(context, store.root, report, isDryRun);
      return report.damaged.length > 0 || report.missingChunks > 0 ? EXIT.damage : EXIT.done;
    });
  } finally {
    progress.end();
  }
}

/** "10%" as 0.1. */
function parseShare(text: string): number {
  const match = /^(\d{1,3}(?:\.\d+)?)%?$/.exec(text);
  const percent = match === null ? Number.NaN : Number(match[1]);
  if (percent <= 100) return percent / 100;
  throw new UsageError('bad-share', 'this is not a share', {
    object: `--max-unused ${text}`,
    expected: 'a percentage from 0% to 100%',
  });
}

function tell({ output, log }: Context, root: string, report: GcReport, isDryRun: boolean): void {
  for (const { file, problem } of report.damaged.slice(0, SHOWN)) {
    log.warn(
      `${printable(relative(root, file))} is damaged, and left alone: ${printable(problem)} (see \`vmar verify\`)`,
    );
  }
  if (report.missingChunks > 0) {
    log.warn(`${counted(report.missingChunks, 'chunk')} that backups need cannot be found (see \`vmar verify\`)`);
  }
  output.summary(
    () => document(report, isDryRun),
    () => (isDryRun ? planText(report) : doneText(report)),
  );
}

const SHOWN = 20;

function document(report: GcReport, isDryRun: boolean) {
  const { backups, packs, liveChunks, liveBytes, missingChunks, deleted, rewritten, written, reprieved, waiting } =
    report;
  const plan = report.plan.map(({ pack, fate, fileBytes, unusedBytes }) => ({
    ...{ pack, fate, size: fileBytes, unused: unusedBytes },
  }));
  const damaged = report.damaged.map(({ file, problem }) => ({ file, problem }));
  const facts = { backups, packs, liveChunks, liveBytes, missingChunks };
  const done = isDryRun ? {} : { deleted, rewritten, written, reprieved };
  return {
    dryRun: isDryRun,
    ...(report.isAnnounced ? {} : { unlocked: true }),
    ...facts,
    plan,
    ...done,
    waiting: waitingDocument(waiting),
    damaged,
    seconds: secondsSinceStart(),
  };
}

function planText({ plan, packs, backups, isAnnounced }: GcReport): string {
  const lines = (['fossil', 'dead', 'damaged', 'sparse', 'small'] as const).flatMap((fate) => {
    const steps = plan.filter((step) => step.fate === fate);
    return steps.length === 0 ? [] : [`${WORDS[fate]}: ${whatOf(steps)}`];
  });
  const head = `${counted(backups, 'backup')}, ${whatOf(packs)}`;
  const doubt = isAnnounced ? [] : [UNANNOUNCED];
  return lines.length === 0
    ? [`nothing to collect: ${head}`, ...doubt].join('\n')
    : [head, ...lines, ...doubt].join('\n');
}

const UNANNOUNCED =
  'the datastore cannot be written to, so no lock was taken: this is right if nothing else was at work in it meanwhile';

const WORDS = {
  fossil: 'condemned before, to be deleted',
  dead: 'needed by no backup, to be deleted',
  damaged: 'damaged, to be replaced by what is sound',
  sparse: 'partly unused, to be rewritten',
  small: 'small, to be joined',
} as const;

function whatOf(what: readonly PlannedStep[] | Tally): string {
  if ('packs' in what) return `${counted(what.packs, 'pack')} of ${humanSize(what.bytes)}`;
  const bytes = what.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
  const unused = what.reduce((sum, { unusedBytes }) => sum + unusedBytes, 0);
  return `${counted(what.length, 'pack')} of ${humanSize(bytes)}, ${humanSize(unused)} of it unused`;
}

function doneText({ deleted, rewritten, written, waiting, backups, packs }: GcReport): string {
  const freed = deleted.bytes - written.bytes;
  const parts = [
    deleted.packs === 0 ? 'nothing was deleted' : `deleted ${whatOf(deleted)}`,
    ...(rewritten.packs === 0 ? [] : [`rewrote ${whatOf(rewritten)} as ${whatOf(written)}`]),
    ...(freed === 0 ? [] : [`${humanSize(Math.abs(freed))} ${freed > 0 ? 'freed' : 'more in use for now'}`]),
  ];
  const head = `${parts.join('; ')}; ${counted(backups, 'backup')}, ${counted(packs.packs, 'pack')} looked at in ${humanDuration(secondsSinceStart())}`;
  if (waiting.packs === 0) return head;
  const who = counted(waiting.sessions, 'command');
  const when = `${whatOf(waiting)} can be deleted when ${who} now at work ${waiting.sessions === 1 ? 'has' : 'have'} ended: by the next gc`;
  const foreign = waiting.for.some(({ holder }) => holder !== undefined && !isOfThisHost(holder));
  const advice = foreign
    ? ['  If such a machine is gone for good: vmar gc --abandon-session ID (see docs/LOCKING.md)']
    : [];
  return [head, when, ...waiting.for.slice(0, SHOWN).map(sessionText), ...advice].join('\n');
}

function sessionText({ id, holder, sinceMillis }: LivingSession): string {
  const since = sinceMillis === undefined ? '' : `, since ${humanTime(sinceMillis / 1000)}`;
  const who = holder === undefined ? 'unknown' : `${holder.doing} on ${printable(holder.host)}, process ${holder.pid}`;
  return `  session ${id}: ${who}${since}`;
}

function waitingDocument({ packs, bytes, sessions, for: living }: GcReport['waiting']) {
  return {
    ...{ packs, bytes, sessions },
    for: living.map(({ id, holder, sinceMillis }) => ({
      session: id,
      ...(sinceMillis === undefined ? {} : { since: formatTime(Math.floor(sinceMillis / 1000)) }),
      ...(holder === undefined ? {} : { doing: holder.doing, host: holder.host, pid: holder.pid }),
    })),
  };
}
