// SPDX-License-Identifier: MIT
// What is told in ten seconds: whether all is well, and if not, what is not.

import { isWell } from '../../nightly/guest-health.js';
import { formatGuest } from '../../store/backup-id.js';
import { counted, humanAge, humanTime } from '../human.js';
import { remarks } from '../status-report.js';
import { type Html, html } from './html.js';
import type { ReportData } from './report-data.js';

const TICK = html`<svg viewBox="0 0 48 48" aria-hidden="true"><circle cx="24" cy="24" r="22" fill="var(--good-cell)"/><path d="M14 25l7 7 14-15" fill="none" stroke="#fff" stroke-width="5" stroke-linecap="round" stroke-linejoin="round"/></svg>`;
const CROSS = html`<svg viewBox="0 0 48 48" aria-hidden="true"><path d="M24 3l22 40H2z" fill="var(--bad-cell)" stroke="var(--bad-cell)" stroke-width="3" stroke-linejoin="round"/><path d="M24 18v12M24 36.5v.5" stroke="#fff" stroke-width="5" stroke-linecap="round"/></svg>`;

/** There are backups, nothing is known against any of them, and no job failed when it ran last. */
export function isAllWell({ guests, damage, failedRuns }: ReportData): boolean {
  return guests.length > 0 && damage.length === 0 && failedRuns.length === 0 && guests.every(isWell);
}

export function verdict(data: ReportData): Html {
  const troubles = troublesOf(data);
  if (troubles.length > 0) {
    return html`<section class="verdict bad" aria-labelledby="verdict">${CROSS}
<h2 id="verdict">${headline(data)}</h2>
<ul>${troubles.map((trouble) => html`<li>${trouble}</li>`)}</ul></section>`;
  }
  if (data.guests.length === 0) {
    return html`<section class="verdict bad" aria-labelledby="verdict">${CROSS}
<h2 id="verdict">There are no backups</h2><p>Nothing was backed up into this datastore yet.</p></section>`;
  }
  return html`<section class="verdict good" aria-labelledby="verdict">${TICK}
<h2 id="verdict">All is well</h2><p>${wellText(data)}</p></section>`;
}

function wellText({ guests }: ReportData): string {
  const oldest = Math.max(...guests.map(({ ageSeconds }) => ageSeconds ?? 0));
  const unverified = guests.filter(({ verifiedMillis }) => verifiedMillis === undefined).length;
  const verified = unverified === 0 ? '' : ` ${countedHave(unverified)} no verified backup yet.`;
  const each = guests.length === 1 ? 'The guest has' : `Each of ${guests.length} guests has`;
  return `${each} a good backup, the oldest of them made ${humanAge(oldest)} ago. None is overdue, nothing is damaged.${verified}`;
}

function countedHave(guests: number): string {
  return `${counted(guests, 'guest')} ${guests === 1 ? 'has' : 'have'}`;
}

function headline({ guests, damage, failedRuns }: ReportData): string {
  const bad = guests.filter((guest) => !isWell(guest)).length;
  if (bad > 0) return `${bad} of ${counted(guests.length, 'guest')} ${bad === 1 ? 'needs' : 'need'} attention`;
  if (damage.length > 0) return 'The datastore is damaged';
  return failedRuns.length === 1 ? 'A job failed' : 'Jobs failed';
}

/** Pieces of one sentence each. */
function troublesOf({ guests, damage, failedRuns }: ReportData): Html[] {
  const ofGuests = guests
    .filter((guest) => !isWell(guest))
    .map((guest) => {
      const name = formatGuest(guest.guest);
      return html`<a href="#guest-${name}">${name}</a>${nameOf(guest)}: ${remarks(guest).join('; ')}`;
    });
  const ofJobs = failedRuns.map(({ job, startedMillis }) => {
    const begun = humanTime(Math.floor(startedMillis / 1000));
    return html`<a href="#runs">job ${job}</a>: its last run, of ${begun}, failed`;
  });
  return [...ofGuests, ...damage.map((text) => html`${text}`), ...ofJobs];
}

/** What the guest is called, beside its id. */
export function nameOf({ last }: ReportData['guests'][number]): string {
  const name = last?.manifest.guestName ?? '';
  return name === '' ? '' : ` (${name})`;
}
