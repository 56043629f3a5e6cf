// SPDX-License-Identifier: MIT
// The calendar of nights: a row for each guest, a cell for each day, with a sign that is not only a colour.

import type { Calendar, Night, NightState } from '../../nightly/calendar.js';
import { formatGuest } from '../../store/backup-id.js';
import { counted } from '../human.js';
import { type Html, html } from './html.js';

const SIGNS: Readonly<Record<NightState, string>> = {
  ok: '✓',
  gone: '–',
  damaged: '!',
  failed: '✕',
  missed: '?',
  none: '',
};

export function calendar({ days, guests }: Calendar): Html {
  return html`<section aria-labelledby="nights"><h2 id="nights">Nights</h2>
<table class="calendar" role="table" style="--days: ${days.length}"><caption>What came of each night, from ${days[0]} to ${days.at(-1)}</caption>
<thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader"><span class="hidden">Guest</span></th>${days.map((day) => dayHead(day))}</tr></thead>
<tbody role="rowgroup">${guests.map(({ guest, nights }) => html`<tr role="row"><th scope="row" role="rowheader">${formatGuest(guest)}</th>${nights.map((night, index) => cell(night, days[index] ?? ''))}</tr>`)}</tbody></table>
<ul class="key"><li><b class="ok" aria-hidden="true">${SIGNS.ok}</b>good backup</li><li><b aria-hidden="true">${SIGNS.gone}</b>good, pruned since</li><li><b class="bad" aria-hidden="true">${SIGNS.failed}</b>failed</li><li><b class="bad" aria-hidden="true">${SIGNS.damaged}</b>damaged</li><li><b class="bad" aria-hidden="true">${SIGNS.missed}</b>should have been, and was not</li><li><b aria-hidden="true"></b>nothing to do</li></ul></section>`;
}

const MONDAY = 1;

function dayHead(day: string): Html {
  const number = String(Number(day.slice(8)));
  const isMonday = new Date(`${day}T00:00:00Z`).getUTCDay() === MONDAY;
  return html`<th scope="col" role="columnheader"${isMonday ? html` class="monday"` : undefined} aria-label="${day}"><span aria-hidden="true">${number}</span></th>`;
}

function cell(night: Night, day: string): Html {
  const text = `${day}: ${sentence(night)}`;
  return html`<td role="cell" class="${night.state}" title="${text}"><span aria-hidden="true">${SIGNS[night.state]}</span><span class="hidden">${text}</span></td>`;
}

function sentence({ state, backups, errors }: Night): string {
  const said = errors.length === 0 ? '' : ` (${errors.join('; ')})`;
  switch (state) {
    case 'ok':
      return `${counted(backups, 'good backup')}${said}`;
    case 'gone':
      return 'good, and pruned since';
    case 'damaged':
      return `damaged${backups > 0 ? `, beside ${counted(backups, 'good backup')}` : ''}`;
    case 'failed':
      return `failed${said}`;
    case 'missed':
      return 'should have been backed up, and was not';
    case 'none':
      return 'nothing to do';
  }
}
