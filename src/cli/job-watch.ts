// SPDX-License-Identifier: MIT
// What is told on standard error while a job runs: a line when it begins and for each guest that is done, what fails and
// why, and how far those are that take long.

import type { JobGuest, JobStep } from '../../formats/vmar/job-report.js';
import { secondsOf } from '../nightly/history.js';
import type { JobEvent } from '../nightly/run-events.js';
import { counted, humanDuration, humanSize } from './human.js';
import type { Output } from './output.js';
import { printable } from './printable.js';

interface Line {
  readonly text: string;
  /** Said with --quiet too. */
  readonly isBad: boolean;
}

export class JobWatch {
  readonly #output: Output;
  readonly #job: string;
  #guests = 0;
  #done = 0;

  constructor(output: Output, job: string) {
    this.#output = output;
    this.#job = job;
  }

  see(event: JobEvent): void {
    const line = this.#lineOf(event);
    if (line === undefined) return;
    const text = printable(`${this.#job}: ${line.text}`);
    if (line.isBad) this.#output.error(text);
    else this.#output.notice(text);
  }

  #lineOf(event: JobEvent): Line | undefined {
    switch (event.event) {
      case 'job-begin':
        return good(`${event.kind} in ${event.datastore}`);
      case 'guests':
        this.#guests = event.guests.length;
        return good(counted(this.#guests, 'guest'));
      case 'says':
        return good(`${event.guest ?? event.step ?? ''}: ${withoutProgram(event.text)}`);
      case 'retry': {
        const again = `attempt ${event.attempt} of ${event.attempts} failed, again in ${humanDuration(event.delaySeconds)}`;
        return bad(`${event.guest ?? event.step ?? ''}: ${again}: ${event.error}`);
      }
      case 'guest-end':
        this.#done++;
        return this.#guestLine(event.result);
      case 'step-end':
        return stepLine(event.result);
      case 'hook-says':
        return good(`${where(event)}: ${event.text}`);
      case 'hook-end':
        return event.error === undefined
          ? undefined
          : bad(`${event.guest === undefined ? '' : `${event.guest}: `}${event.error}`);
      case 'warning':
        return bad(`warning: ${event.guest === undefined ? '' : `${event.guest}: `}${event.text}`);
      default:
        return undefined;
    }
  }

  #guestLine(result: JobGuest): Line {
    const { guest, outcome, error, readBytes, storedBytes } = result;
    const place = `(${this.#done} of ${this.#guests})`;
    if (outcome !== 'ok') return bad(`${guest}: ${outcome}: ${error} ${place}`);
    const took = humanDuration(secondsOf(result));
    return good(`${guest}: done in ${took}, ${humanSize(readBytes)} read, ${humanSize(storedBytes)} stored ${place}`);
  }
}

function stepLine({ step, outcome, error, summary }: JobStep): Line {
  return outcome === 'ok' ? good(`${step}: ${summary || 'done'}`) : bad(`${step}: ${outcome}: ${error}`);
}

function good(text: string): Line {
  return { text, isBad: false };
}

function bad(text: string): Line {
  return { text, isBad: true };
}

function where({ moment, guest }: { readonly moment: string; readonly guest?: string }): string {
  return guest === undefined ? moment : `${guest}: ${moment}`;
}

/** "vmar backup: x" as "x": whose word it is, is said already. */
function withoutProgram(text: string): string {
  return text.replace(/^vmar( [a-z-]+)*: /, '');
}
