// SPDX-License-Identifier: MIT
// The table of guests, and what the store as a whole amounts to.

import { ratioOf } from '../../archive/stats/periods.js';
import { type GuestHealth, isWell } from '../../nightly/guest-health.js';
import { formatGuest } from '../../store/backup-id.js';
import { counted, humanAge, humanRatio, humanSize, humanTime } from '../human.js';
import { remarks, sizeOf } from '../status-report.js';
import { type Html, html } from './html.js';
import type { ReportData } from './report-data.js';

export function figures({ stats, periods, guests }: ReportData): Html {
  const latest = periods.at(-1);
  const figure = (name: string, value: string, more: string): Html =>
    html`<div><dt>${name}</dt><dd class="value">${value}</dd><dd class="more">${more}</dd></div>`;
  return html`<dl class="figures">
${figure('Stored', humanSize(stats.storedBytes), `in ${counted(stats.packs.packs, 'pack')} of ${humanSize(stats.packs.bytes)}`)}
${figure('Deduplication', humanRatio(ratioOf(stats)), `${humanSize(stats.logicalBytes)} are kept in that`)}
${figure('Backups', String(stats.backups.length), `of ${counted(guests.length, 'guest')}`)}
${figure('New last', latest === undefined ? '-' : humanSize(latest.newStoredBytes), latest === undefined ? '' : `stored on ${latest.period}`)}
</dl>`;
}

export function guestTable(data: ReportData): Html {
  const { guests, madeMillis } = data;
  return html`<section aria-labelledby="guests"><h2 id="guests">Guests</h2>
<table class="stack"><caption>Each guest with its last good backup, as of ${humanTime(madeMillis / 1000)}</caption>
<thead><tr><th scope="col">Guest</th><th scope="col">State</th><th scope="col">Last good backup</th><th scope="col" class="number">Size</th><th scope="col" class="number">Backups</th><th scope="col">Verified</th><th scope="col">Next run</th></tr></thead>
<tbody>${guests.map((guest) => row(guest, madeMillis))}</tbody></table></section>`;
}

function row(guest: GuestHealth, nowMillis: number): Html {
  const { last, ageSeconds, verifiedMillis, nextRunMillis, backups } = guest;
  const name = formatGuest(guest.guest);
  // The state says so already.
  const trouble = remarks(guest)
    .map((text) => text.replace(/^overdue(: )?/, ''))
    .filter((text) => text !== '');
  const called = last?.manifest.guestName ?? '';
  const verified =
    verifiedMillis === undefined ? 'never' : `${humanAge(Math.max(0, nowMillis - verifiedMillis) / 1000)} ago`;
  return html`<tr id="guest-${name}"><th scope="row">${name}${called === '' ? undefined : html`<span class="sub">${called}</span>`}</th>
<td class="wide">${stateOf(guest)}${trouble.map((text) => html`<span class="sub">${text}</span>`)}</td>
<td data-label="Last good backup">${last === undefined ? 'none' : humanTime(last.ref.timeSeconds)}${ageSeconds === undefined ? undefined : html`<span class="sub">${humanAge(ageSeconds)} ago</span>`}</td>
<td class="number" data-label="Size">${last === undefined ? '-' : humanSize(sizeOf(guest))}</td>
<td class="number" data-label="Backups">${backups}</td>
<td data-label="Verified">${last === undefined ? '-' : verified}</td>
<td data-label="Next run">${nextRunMillis === undefined ? 'not scheduled' : humanTime(nextRunMillis / 1000)}</td></tr>`;
}

function stateOf(guest: GuestHealth): Html {
  if (guest.overdue !== undefined)
    return html`<span class="state bad">${guest.last === undefined ? 'no backup' : 'overdue'}</span>`;
  if (!isWell(guest)) return html`<span class="state bad">damaged</span>`;
  if (guest.inFuture > 0) return html`<span class="state warn">clock was wrong</span>`;
  return html`<span class="state good">good</span>`;
}

/** What each guest takes of the store. */
export function shareTable({ stats }: ReportData): Html {
  const most = Math.max(1, ...stats.guests.map(({ storedBytes }) => storedBytes));
  const rows = [...stats.guests].sort((a, b) => b.storedBytes - a.storedBytes);
  return html`<section aria-labelledby="shares"><h2 id="shares">What guests take</h2>
<table class="stack shares"><caption>Stored for each guest: what it alone holds would be free without it, the rest is shared with others</caption>
<thead><tr><th scope="col">Guest</th><th scope="col">Share</th><th scope="col" class="number">Stored</th><th scope="col" class="number">Alone</th><th scope="col" class="number">Kept</th><th scope="col" class="number">Ratio</th></tr></thead>
<tbody>${rows.map((guest) => {
    const { storedBytes, aloneBytes, logicalBytes } = guest;
    const alone = Math.round((aloneBytes / most) * 1000);
    const shared = Math.round((Math.max(0, storedBytes - aloneBytes) / most) * 1000);
    const label = `${humanSize(storedBytes)} stored, of which ${humanSize(aloneBytes)} are its alone`;
    return html`<tr><th scope="row">${formatGuest(guest.guest)}</th>
<td class="wide"><span class="bar"><svg viewBox="0 0 1000 12" preserveAspectRatio="none" role="img" aria-label="${label}"><rect class="alone" width="${alone}" height="12"/><rect class="shared" x="${alone}" width="${shared}" height="12"/></svg></span></td>
<td class="number" data-label="Stored">${humanSize(storedBytes)}</td><td class="number" data-label="Alone">${humanSize(aloneBytes)}</td>
<td class="number" data-label="Kept">${humanSize(logicalBytes)}</td><td class="number" data-label="Ratio">${humanRatio(ratioOf(guest))}</td></tr>`;
  })}</tbody></table>
<ul class="key"><li><b class="heat alone-key"></b>its alone</li><li><b class="heat shared-key"></b>shared with other guests</li></ul></section>`;
}
