// SPDX-License-Identifier: MIT
// The report: one page that stands alone. It asks for nothing from anywhere and needs no scripts; its own policy forbids
// both.

import { ratioOf } from '../../archive/stats/periods.js';
import { counted, humanRatio, humanSize, humanTime } from '../human.js';
import { figures, guestTable, shareTable } from './guests.js';
import { Html, html } from './html.js';
import { calendar } from './nights.js';
import { pictures } from './pictures.js';
import { plot } from './plot.js';
import type { ReportData } from './report-data.js';
import { runs } from './runs.js';
import { STYLE } from './style.js';
import { verdict } from './verdict.js';

const POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

export function page(data: ReportData): string {
  const { datastore, madeMillis, program } = data;
  const made = humanTime(madeMillis / 1000);
  const document = html`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${POLICY}"><meta name="color-scheme" content="light dark">
<meta name="generator" content="${program}"><title>Backups in ${datastore}</title><style>${new Html(STYLE)}</style></head>
<body><header><h1>Backups in ${datastore}</h1><p>as of ${made} (${timeZone()})</p></header>
<main>
${verdict(data)}
${figures(data)}
${guestTable(data)}
${calendar(data.calendar)}
${growth(data)}
${shareTable(data)}
${pictures(data.changes)}
${runs(data.runs)}
</main>
<footer><p>Made by ${program}. Growth tells of the backups that are there now: each chunk counts from the first of them that needs it.</p></footer>
</body></html>
`;
  return document.text;
}

function growth({ periods, stats }: ReportData): Html {
  const days = (seconds: number): string => humanTime(seconds).slice(0, 10);
  const stored = periods.map(({ lastSeconds, untilThen }) => ({
    timeSeconds: lastSeconds,
    value: untilThen.storedBytes,
  }));
  const ratios = periods.map(({ lastSeconds, untilThen }) => ({
    timeSeconds: lastSeconds,
    value: ratioOf(untilThen) ?? 0,
  }));
  return html`<section aria-labelledby="growth"><h2 id="growth">Growth</h2><p class="hint">By the backups that are there now</p><div class="pair">
${plot({
  title: 'Stored',
  caption: `${humanSize(stats.storedBytes)} for ${counted(stats.backups.length, 'backup')}`,
  points: stored,
  format: humanSize,
  formatTime: days,
  base: 1024,
})}
${plot({
  title: 'Deduplication ratio',
  caption: `${humanSize(stats.logicalBytes)} of content in ${humanSize(stats.storedBytes)}: ${humanRatio(ratioOf(stats))}`,
  points: ratios,
  format: humanRatio,
  formatTime: days,
  base: 10,
})}
</div></section>`;
}

function timeZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}
