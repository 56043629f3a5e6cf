// SPDX-License-Identifier: MIT
// vmar job history

import { EXIT, type ExitStatus } from '../../base/errors.js';
import type { NightlyConfig } from '../../nightly/config.js';
import { isUnderWay, type SeenReport, secondsOf } from '../../nightly/history.js';
import { reportDocument } from '../../nightly/report-document.js';
import type { Context } from '../context.js';
import { humanDuration, humanSize, humanTime } from '../human.js';
import { type ConfigFlags, openConfig } from '../job-config.js';
import { guestTable } from '../job-report-text.js';
import { readHistories } from '../job-stores.js';
import { parseCount } from '../parse-count.js';
import { printable } from '../printable.js';
import { seenConfig } from '../seen-config.js';
import { renderTable } from '../table.js';

export interface JobHistoryFlags extends ConfigFlags {
  readonly last?: string;
  readonly guests?: boolean;
}

const DEFAULT_LAST = 20;
const MOST_LAST = 1_000_000;

export async function run(context: Context, names: readonly string[], flags: JobHistoryFlags): Promise<ExitStatus> {
  const last = flags.last === undefined ? DEFAULT_LAST : parseCount(flags.last, '--last', 1, MOST_LAST);
  const config = context.isDatastoreNamed ? undefined : await historyConfig(context, flags);
  const place = config === undefined ? context : { ...context, datastoreDirectory: undefined };
  const wanted = new Set(names);
  const fits = ({ job }: SeenReport): boolean => wanted.size === 0 || wanted.has(job);
  const { reports, isPartial } = await readHistories(place, config, fits, last);
  const runs = [...reports].reverse();
  context.output.result(
    () => ({ runs: runs.map(reportDocument) }),
    () => asText(context, runs, flags.guests === true),
  );
  return isPartial ? EXIT.failed : EXIT.done;
}

/** Jobs are what a configuration says: it goes before VMAR_DATASTORE, which serves where there is none. */
async function historyConfig(context: Context, flags: ConfigFlags): Promise<NightlyConfig | undefined> {
  const config = await seenConfig(context, flags);
  return config === undefined && context.datastoreDirectory === undefined ? await openConfig(context, flags) : config;
}

function asText(context: Context, runs: readonly SeenReport[], withGuests: boolean): string {
  const { output } = context;
  if (runs.length === 0) return output.quiet ? '' : 'no runs';
  if (!withGuests) return runTable(context, runs);
  return runs
    .map((report) => {
      const { guests } = report;
      return [runTable(context, [report]), ...(guests.length === 0 ? [] : [guestTable(output.paint, guests)])].join(
        '\n',
      );
    })
    .join('\n\n');
}

function runTable({ output }: Context, runs: readonly SeenReport[]): string {
  const columns = [
    ...[{ title: 'begun' }, { title: 'job' }, { title: 'kind' }, { title: 'outcome' }],
    ...['took', 'guests', 'new', 'stored'].map((title) => ({ title, align: 'right' as const })),
    { title: '' },
  ];
  const rows = runs.map((report) => {
    const { job, kind, outcome, error, guests, startedMillis } = report;
    const good = guests.filter((guest) => guest.outcome === 'ok');
    const sum = (count: (guest: (typeof guests)[number]) => number): string =>
      guests.length === 0 ? '' : humanSize(good.reduce((total, guest) => total + count(guest), 0));
    const row = [
      humanTime(Math.floor(startedMillis / 1000)),
      ...[printable(job), printable(kind), outcome, humanDuration(secondsOf(report))],
      guests.length === 0 ? '' : `${good.length} of ${guests.length}`,
      ...[sum((guest) => guest.newBytes), sum((guest) => guest.storedBytes)],
      printable(error),
    ];
    return outcome === 'ok' || isUnderWay(outcome) ? row : row.map((cell) => output.paint('red', cell));
  });
  return renderTable(output.paint, columns, rows);
}
