// SPDX-License-Identifier: MIT
// What an import tells when it is done: each file, and what all of them came down to.

import type { ImportResult } from '../archive/import/import-place.js';
import { EXIT, type ExitStatus } from '../base/errors.js';
import type { Context } from './context.js';
import { counted, humanDuration, humanSize } from './human.js';
import type { Paint } from './paint.js';
import { printable } from './printable.js';
import { type DescribedError, renderError } from './render-error.js';
import { renderTable } from './table.js';

export interface ImportedFile extends ImportResult {
  readonly file: string;
}

export interface FailedFile {
  readonly file: string;
  readonly error: DescribedError;
}

export interface ImportReport {
  readonly imported: readonly ImportedFile[];
  readonly failed: readonly FailedFile[];
  readonly seconds: number;
}

interface Sums {
  readonly size: number;
  readonly new: number;
  readonly stored: number;
}

/** What was there before adds nothing. */
function sums({ disks, isKnown }: ImportResult): Sums {
  const sum = (what: 'sizeBytes' | 'newBytes' | 'storedBytes') => disks.reduce((all, disk) => all + disk[what], 0);
  return { size: sum('sizeBytes'), new: isKnown ? 0 : sum('newBytes'), stored: isKnown ? 0 : sum('storedBytes') };
}

function total(files: readonly ImportedFile[]): Sums {
  return files
    .map(sums)
    .reduce((all, one) => ({ size: all.size + one.size, new: all.new + one.new, stored: all.stored + one.stored }), {
      size: 0,
      new: 0,
      stored: 0,
    });
}

/** The exit status is that of the first file that failed. */
export function tellImport({ command, output }: Context, report: ImportReport): ExitStatus {
  const { imported, failed, seconds } = report;
  const document = () => ({
    imported: imported.map((file) => ({ file: file.file, backup: file.backup, known: file.isKnown, ...sums(file) })),
    failed,
    ...total(imported),
    seconds,
  });
  if (imported.length > 0 || output.json) output.summary(document, () => asText(output.paint, report));
  if (!output.json) for (const each of failed) output.error(renderError(command, namingFile(each)));
  return failed[0]?.error.exit ?? EXIT.done;
}

/** What went wrong may be about the datastore: then that alone would not tell which file is missing. */
function namingFile({ file, error }: FailedFile): DescribedError {
  const { object } = error;
  if (object?.startsWith(file) === true) return error;
  return { ...error, object: object === undefined ? file : `${file}: ${object}` };
}

function asText(paint: Paint, { imported, failed, seconds }: ImportReport): string {
  const columns = [
    { title: 'file' },
    { title: 'backup' },
    ...['logical', 'new', 'stored'].map((title) => ({ title, align: 'right' as const })),
    { title: '' },
  ];
  const rows = imported.map((file) => {
    const { size, new: fresh, stored } = sums(file);
    const remark = file.isKnown ? 'was there already' : '';
    return [printable(file.file), file.backup, humanSize(size), humanSize(fresh), humanSize(stored), remark];
  });
  const all = total(imported);
  if (rows.length > 1) {
    rows.push(['all', '', humanSize(all.size), humanSize(all.new), humanSize(all.stored), '']);
  }
  const fresh = imported.filter(({ isKnown }) => !isKnown);
  const known = imported.length - fresh.length;
  const counts = [
    `${counted(fresh.length, 'backup')} imported`,
    ...(known === 0 ? [] : [`${known} there already`]),
    ...(failed.length === 0 ? [] : [`${counted(failed.length, 'file')} failed`]),
  ];
  const { size, stored } = total(fresh);
  const outcome = fresh.length === 0 ? '' : `: ${humanSize(size)} came down to ${humanSize(stored)}`;
  const close = `${counts.join(', ')} in ${humanDuration(seconds)}${outcome}`;
  return `${renderTable(paint, columns, rows)}\n${close}`;
}
