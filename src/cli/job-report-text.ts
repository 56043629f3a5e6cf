// SPDX-License-Identifier: MIT
// A report of a job for people: at the end of a run, and in mails.

import { isUnfinished, type JobReport, type JobStep } from '../../formats/vmar/job-report.js';
import { isUnderWay, type SeenGuest, secondsOf } from '../nightly/history.js';
import { counted, humanDuration, humanSize, humanTime } from './human.js';
import type { Paint } from './paint.js';
import { printable } from './printable.js';
import { renderTable } from './table.js';

const NUMBERS = [
  ['size', (guest: SeenGuest) => guest.sizeBytes],
  ['read', (guest: SeenGuest) => guest.readBytes],
  ['new', (guest: SeenGuest) => guest.newBytes],
  ['stored', (guest: SeenGuest) => guest.storedBytes],
] as const;

/** The guests as a table, the steps, and how it went as a whole. */
export function reportText(paint: Paint, report: JobReport): string {
  const { guests, steps } = report;
  return [
    ...(guests.length === 0 ? [] : [guestTable(paint, guests)]),
    ...steps.map(stepLine),
    lastLine(paint, report),
  ].join('\n');
}

/** With all that was said on the way. */
export function mailText(plain: Paint, report: JobReport): string {
  const { job, kind, host, startedMillis, warnings } = report;
  const head = `${job} (${kind}) on ${host}, begun ${humanTime(Math.floor(startedMillis / 1000))}`;
  const said = warnings.length === 0 ? [] : ['', 'Warnings:', ...warnings.map((text) => `- ${printable(text)}`)];
  return [head, '', reportText(plain, report), ...said].join('\n');
}

export function guestTable(paint: Paint, guests: readonly SeenGuest[]): string {
  const columns = [
    { title: 'guest' },
    { title: 'outcome' },
    { title: 'took', align: 'right' as const },
    ...NUMBERS.map(([title]) => ({ title, align: 'right' as const })),
    { title: '' },
  ];
  const rows = guests.map((guest) => {
    const { outcome, attempts, backup, error } = guest;
    const isGood = outcome === 'ok';
    const row = [
      printable(guest.guest),
      attempts > 1 ? `${outcome}, ${counted(attempts, 'attempt')}` : outcome,
      attempts === 0 ? '' : humanDuration(secondsOf(guest)),
      ...NUMBERS.map(([, count]) => (isGood ? humanSize(count(guest)) : '')),
      printable(isGood ? backup : error),
    ];
    return isGood || isUnderWay(outcome) ? row : row.map((cell) => paint('red', cell));
  });
  return renderTable(paint, columns, rows);
}

function stepLine({ step, outcome, summary, error }: JobStep): string {
  const what = outcome === 'ok' ? summary || 'done' : `${outcome}: ${error}`;
  return printable(`${step}: ${what}`);
}

/** "nightly: 1 of 2 guests failed, in 3.4 s" */
function lastLine(paint: Paint, report: JobReport): string {
  const { job, outcome, error, guests, steps } = report;
  const bad = guests.filter((guest) => guest.outcome !== 'ok').length;
  const of =
    guests.length === 0
      ? []
      : [bad === 0 ? counted(guests.length, 'guest') : `${bad} of ${counted(guests.length, 'guest')} failed`];
  const isTold = guests.length + steps.length > 0 && [...guests, ...steps].some((part) => part.outcome !== 'ok');
  const isHidden = error === '' || (isTold && !isUnfinished(report));
  const parts = [outcome, ...of, ...(isHidden ? [] : [printable(error)])];
  const line = `${job}: ${parts.join(', ')}, in ${humanDuration(secondsOf(report))}`;
  return outcome === 'ok' ? line : paint('red', line);
}
