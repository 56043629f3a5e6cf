// SPDX-License-Identifier: MIT
// For each disk a picture of what changed: a row for each night, a column for each region of the disk, the darker the more
// of it changed.

import type { DiskChange, DiskChanges } from '../../archive/stats/changes.js';
import { formatGuest } from '../../store/backup-id.js';
import { localPeriodOf } from '../../store/prune-periods.js';
import { counted, humanSize, humanTime } from '../human.js';
import { type Html, html } from './html.js';

/** Least shares of a region for each darkness after the first. */
const STEPS = [0.02, 0.1, 0.3, 0.7];
const WORDS = ['nothing', 'less than 2 %', '2 to 10 %', '10 to 30 %', '30 to 70 %', 'more'];
const ROW = 10;
const BAR = 8;
const COLUMN = 10;
const ROW_PIXELS = 7;
/** Guests whose pictures are not folded away. */
const MOST_OPEN = 6;

export function pictures(all: readonly DiskChanges[]): Html {
  const guests = new Map<string, DiskChanges[]>();
  for (const changes of all) {
    const name = formatGuest(changes.guest);
    guests.set(name, [...(guests.get(name) ?? []), changes]);
  }
  const open = guests.size <= MOST_OPEN;
  return html`<section aria-labelledby="changes"><h2 id="changes">What changed on the disks</h2>
<p class="hint">Each row is a night, the newest at the bottom; from left to right is the disk, from its beginning to its end.</p>
<ul class="key">${WORDS.map((word, level) => html`<li><b class="heat h${level}" aria-hidden="true"></b>${word}</li>`)}</ul>
${[...guests].map(([name, disks]) => html`<details class="guest"${open ? html` open` : undefined}><summary>${name}</summary>${disks.map(picture)}</details>`)}
</section>`;
}

function picture(of: DiskChanges): Html {
  const { disk, sizeBytes, changes } = of;
  const compared = changes.filter(({ state }) => state === 'compared');
  const columns = Math.max(1, Math.ceil(sizeBytes / of.regionBytes));
  const height = changes.length * ROW;
  const [first, last] = [changes[0], changes.at(-1)];
  const most = compared.reduce<DiskChange | undefined>(
    (a, b) => (a === undefined || b.changedBytes > a.changedBytes ? b : a),
    undefined,
  );
  const average = compared.reduce((sum, one) => sum + one.changedBytes, 0) / Math.max(1, compared.length);
  const summary =
    most === undefined
      ? 'there is nothing to compare yet'
      : `${humanSize(Math.round(average))} a night changed, most on ${dayOf(most)}: ${humanSize(most.changedBytes)} (${percent(most.changedBytes / sizeBytes)})`;
  if (compared.length > 0 && most?.changedBytes === 0 && compared.length >= changes.length - 1) {
    const nights = counted(compared.length, 'night');
    return html`<figure class="disk"><figcaption><strong>${disk}</strong>${humanSize(sizeBytes)}; nothing changed in ${nights}</figcaption></figure>`;
  }
  const dates = [
    first,
    ...(changes.length > 8 ? [changes[Math.floor(changes.length / 2)]] : []),
    ...(changes.length > 1 ? [last] : []),
  ];
  return html`<figure class="disk"><figcaption><strong>${disk}</strong>${humanSize(sizeBytes)}; ${summary}</figcaption>
<div class="picture"><div class="nights" aria-hidden="true">${dates.map((change) => (change === undefined ? undefined : html`<span style="top: ${percent(changes.indexOf(change) / changes.length)}">${dayOf(change).slice(5)}</span>`))}</div>
<svg viewBox="0 0 ${columns * COLUMN} ${height}" style="height: ${Math.max(12, changes.length * ROW_PIXELS)}px" preserveAspectRatio="none" role="img" aria-label="What changed on ${disk}: ${summary}">${changes.map((change, index) => nightRow(change, index * ROW, columns))}</svg>
<div class="places" aria-hidden="true"><span>0</span><span>${humanSize(Math.round(sizeBytes / 2))}</span><span>${humanSize(sizeBytes)}</span></div></div>
<details><summary>As a table</summary><table><caption>What changed on ${disk}, night by night</caption><thead><tr><th scope="col">Backup</th><th scope="col" class="number">Changed</th><th scope="col" class="number">Of the disk</th></tr></thead>
<tbody>${changes.map((change) => html`<tr><th scope="row">${humanTime(change.ref.timeSeconds)}</th><td class="number">${changedText(change)}</td><td class="number">${change.state === 'compared' ? percent(change.changedBytes / sizeBytes) : '-'}</td></tr>`)}</tbody></table></details></figure>`;
}

/** A path for each darkness: neighbours of equal darkness are one piece. */
function nightRow(change: DiskChange, top: number, columns: number): Html {
  const title = html`<title>${humanTime(change.ref.timeSeconds)}: ${changedText(change)}</title>`;
  const whole = html`M0 ${top}h${columns * COLUMN}v${BAR}H0z`;
  if (change.state === 'first')
    return html`<g>${title}<path class="first" d="M0 ${top + BAR / 2}H${columns * COLUMN}"/></g>`;
  if (change.state !== 'compared') return html`<g>${title}<path class="unknown" d="${whole}"/></g>`;
  const paths = new Map<number, string>();
  const { shares } = change;
  for (let from = 0; from < shares.length; ) {
    const level = levelOf(shares[from] ?? 0);
    let end = from + 1;
    while (end < shares.length && levelOf(shares[end] ?? 0) === level) end++;
    const piece = `M${from * COLUMN} ${top}h${(end - from) * COLUMN}v${BAR}h${-(end - from) * COLUMN}z`;
    if (level > 0) paths.set(level, (paths.get(level) ?? '') + piece);
    from = end;
  }
  return html`<g>${title}<path class="unchanged" d="${whole}"/>${[...paths].map(([level, d]) => html`<path class="h${level}" d="${d}"/>`)}</g>`;
}

/** 0 for nothing, to 5. */
function levelOf(share: number): number {
  return share <= 0 ? 0 : 1 + STEPS.filter((step) => share >= step).length;
}

function changedText({ state, changedBytes }: DiskChange): string {
  switch (state) {
    case 'compared':
      return humanSize(changedBytes);
    case 'first':
      return 'the first one';
    case 'other':
      return 'made in another way';
    case 'lost':
      return 'its map is damaged';
  }
}

function dayOf({ ref }: DiskChange): string {
  return localPeriodOf('daily', ref.timeSeconds);
}

function percent(share: number): string {
  const percents = share * 100;
  return `${percents === 0 || percents >= 10 ? Math.round(percents) : percents.toFixed(1)}%`;
}
