// SPDX-License-Identifier: MIT
// What jobs did, the newest run first.

import { isUnderWay, type SeenReport, secondsOf } from '../../nightly/history.js';
import { counted, humanDuration, humanSize, humanTime } from '../human.js';
import { type Html, html } from './html.js';

/** Rows that are shown, and those that are folded away. */
const MOST_SHOWN = 10;
const MOST_FOLDED = 90;
const MOST_ERRORS = 5;

export function runs(reports: readonly SeenReport[]): Html {
  const first = reports.slice(0, MOST_SHOWN);
  const earlier = reports.slice(MOST_SHOWN, MOST_SHOWN + MOST_FOLDED);
  if (first.length === 0) {
    return html`<section aria-labelledby="runs"><h2 id="runs">Job history</h2><p class="hint">No job has run yet: vmar job run keeps a report of each run.</p></section>`;
  }
  const ended = reports.filter(({ outcome }) => !isUnderWay(outcome));
  const good = ended.filter(({ outcome }) => outcome === 'ok').length;
  const caption = `The last ${counted(first.length, 'run')} of ${reports.length}; ${good} of ${ended.length} went well`;
  return html`<section aria-labelledby="runs"><h2 id="runs">Job history</h2>
${table(first, caption)}
${earlier.length === 0 ? undefined : html`<details><summary>${counted(earlier.length, 'run')} before these</summary>${table(earlier, 'Runs before these')}</details>`}</section>`;
}

function table(reports: readonly SeenReport[], caption: string): Html {
  const longest = Math.max(1, ...reports.map(secondsOf));
  return html`<table class="stack"><caption>${caption}</caption>
<thead><tr><th scope="col">Begun</th><th scope="col">Outcome</th><th scope="col">Job</th><th scope="col">Took</th><th scope="col" class="number">Guests</th><th scope="col" class="number">New</th></tr></thead>
<tbody>${reports.map((report) => row(report, longest))}</tbody></table>`;
}

function row(report: SeenReport, longestSeconds: number): Html {
  const { job, kind, guests, outcome, startedMillis } = report;
  const good = guests.filter((guest) => guest.outcome === 'ok').length;
  const stored = guests.reduce((sum, guest) => sum + guest.storedBytes, 0);
  const errors = errorsOf(report);
  const more = errors.length - MOST_ERRORS;
  const width = Math.max(1, Math.round((secondsOf(report) / longestSeconds) * 100));
  return html`<tr><th scope="row">${humanTime(Math.floor(startedMillis / 1000))}</th>
<td class="wide"><span class="state ${STATES[outcome] ?? 'bad'}">${outcome}</span>${errors.slice(0, MOST_ERRORS).map((error) => html`<span class="sub">${error}</span>`)}${more > 0 ? html`<span class="sub">and ${more} more</span>` : undefined}</td>
<td class="name" data-label="Job">${job}${kind === job ? undefined : html`<span class="sub">${kind}</span>`}</td>
<td data-label="Took">${humanDuration(secondsOf(report))}<svg class="took" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect width="${width}" height="4"/></svg></td>
<td class="number" data-label="Guests">${guests.length === 0 ? '-' : `${good} of ${guests.length}`}</td>
<td class="number" data-label="New">${guests.length === 0 ? '-' : humanSize(stored)}</td></tr>`;
}

const STATES: Readonly<Record<SeenReport['outcome'], string>> = {
  ok: 'good',
  failed: 'bad',
  skipped: 'bad',
  busy: 'warn',
  interrupted: 'warn',
  running: 'none',
  waiting: 'none',
};

function errorsOf({ error, guests, steps, warnings }: SeenReport): string[] {
  const all = [
    ...(error === '' ? [] : [error]),
    ...guests.flatMap(({ guest, outcome, error: why }) =>
      outcome === 'ok' || isUnderWay(outcome) ? [] : [`${guest}: ${why === '' ? outcome : why}`],
    ),
    ...steps.flatMap(({ step, outcome, error: why }) =>
      outcome === 'ok' || isUnderWay(outcome) ? [] : [`${step}: ${why === '' ? outcome : why}`],
    ),
    ...warnings,
  ];
  return [...new Set(all)];
}
