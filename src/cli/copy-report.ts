// SPDX-License-Identifier: MIT
// What a copy tells when it is done: each backup, and what all of them came down to.

import type { CopiedBackup, CopyReport } from '../archive/copy/copy-stores.js';
import { EXIT, type ExitStatus } from '../base/errors.js';
import type { Context } from './context.js';
import { counted, humanDuration, humanSize } from './human.js';
import type { Paint } from './paint.js';
import { printable } from './printable.js';
import { describeError, renderError } from './render-error.js';
import { renderTable } from './table.js';

export interface ToldCopy extends CopyReport {
  readonly from: string;
  readonly to: string;
  readonly isDryRun: boolean;
  /** Each was named: of others, those that were there before are not worth a line. */
  readonly isNamed: boolean;
  readonly seconds: number;
}

/** Damage is told by the exit status before anything else; otherwise it is that of the first that failed. */
export function tellCopy({ command, output }: Context, told: ToldCopy): ExitStatus {
  const { copied, failed, from, to, isDryRun, seconds } = told;
  const errors = failed.map(({ backup, error }) => ({ backup, error: describeError(error) }));
  const document = () => ({
    ...{ from, to, dryRun: isDryRun },
    copied: copied.map((each) => ({
      ...{ backup: each.backup, known: each.isKnown, rechunked: each.isRechunked },
      ...{ size: each.sizeBytes, new: each.newBytes, stored: each.storedBytes },
    })),
    failed: errors,
    ...totals(copied),
    seconds,
  });
  const show = isDryRun ? output.result.bind(output) : output.summary.bind(output);
  show(document, () => asText(output.paint, told));
  if (!output.json) {
    for (const { backup, error } of errors) {
      output.error(renderError(command, { ...error, message: `${backup} was not copied: ${error.message}` }));
    }
  }
  const exits = errors.map(({ error }) => error.exit);
  return exits.includes(EXIT.damage) ? EXIT.damage : (exits[0] ?? EXIT.done);
}

function totals(copied: readonly CopiedBackup[]) {
  const sum = (what: 'sizeBytes' | 'newBytes' | 'storedBytes') => copied.reduce((all, each) => all + each[what], 0);
  return { size: sum('sizeBytes'), new: sum('newBytes'), stored: sum('storedBytes') };
}

function asText(paint: Paint, { copied, failed, to, isDryRun, isNamed, seconds }: ToldCopy): string {
  const shown = isNamed ? copied : copied.filter(({ isKnown }) => !isKnown);
  const columns = [
    { title: 'backup' },
    ...['logical', 'new', 'stored'].map((title) => ({ title, align: 'right' as const })),
    { title: '' },
  ];
  const rows = shown.map((each) => {
    const sizes = [each.sizeBytes, each.newBytes, each.storedBytes].map(humanSize);
    return [each.backup, ...sizes, remarkOf(each, isDryRun)];
  });
  const all = totals(copied);
  const fresh = copied.filter(({ isKnown }) => !isKnown);
  if (rows.length > 1) {
    rows.push(['all', ...[totals(shown).size, all.new, all.stored].map(humanSize), '']);
  }
  const known = copied.length - fresh.length;
  const rest = [
    ...(known === 0 ? [] : [`${known} there already`]),
    ...(failed.length === 0 ? [] : [`${failed.length} failed`]),
  ];
  const what = counted(fresh.length, 'backup');
  const done = isDryRun
    ? `${what} would be copied to ${printable(to)}: about ${humanSize(all.stored)}; nothing was`
    : `${what} copied to ${printable(to)} in ${humanDuration(seconds)}: ${humanSize(all.stored)} stored`;
  const close = [done, ...rest].join(', ');
  return rows.length === 0 ? close : `${renderTable(paint, columns, rows)}\n${close}`;
}

function remarkOf({ isKnown, isRechunked }: CopiedBackup, isDryRun: boolean): string {
  if (isKnown) return 'was there already';
  if (!isRechunked) return '';
  return isDryRun ? 'at most: to be chunked anew' : 'chunked anew';
}
