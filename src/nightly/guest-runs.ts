// SPDX-License-Identifier: MIT
// The guests of a job, one after another or several at a time, each with its hooks and its attempts. What happens to one
// has no bearing on the others. A guest that waits for its next attempt keeps no other waiting.

import type { JobCounts, JobGuest } from '../../formats/vmar/job-report.js';
import { type ChildResult, type JsonObject, runChild } from './child.js';
import type { JobConfig } from './config.js';
import { countsOf, type Ending, failure, INTERRUPTED, NO_COUNTS, OK } from './endings.js';
import type { Hooks } from './hooks.js';
import type { JobHost } from './job-host.js';
import type { Environment } from './program.js';
import type { OnEvent } from './run-events.js';

/** What is done for one guest. */
export interface GuestWork {
  readonly guest: string;
  /** Of vmar. */
  readonly words: readonly string[];
  /** Why it cannot even be begun with. */
  readonly refusal?: Ending;
}

export interface GuestRunsOptions {
  readonly job: JobConfig;
  readonly host: JobHost;
  readonly hooks: Hooks;
  readonly facts: Environment;
  readonly datastorePath: string;
  readonly parallel: number;
  readonly onEvent: OnEvent;
  /** Rejects where it makes no sense to begin with a guest. */
  readonly before: () => Promise<Ending | undefined>;
  readonly onWarning: (guest: string, text: string) => void;
}

interface Turn {
  readonly work: GuestWork;
  /** Attempts that were made. */
  attempts: number;
  startedMillis: number;
  /** By the monotonic clock. */
  notBeforeMillis: number;
}

const WARNING = ': warning: ';

export class GuestRuns {
  readonly #options: GuestRunsOptions;
  readonly #results: JobGuest[] = [];
  #turns: Turn[] = [];

  constructor(options: GuestRunsOptions) {
    this.#options = options;
  }

  /** In the order of their ends; also when interrupted. Never rejects. */
  async run(works: readonly GuestWork[]): Promise<readonly JobGuest[]> {
    const { host, parallel } = this.#options;
    const startedMillis = host.clock.nowMillis();
    this.#turns = works.map((work) => ({ work, attempts: 0, startedMillis, notBeforeMillis: 0 }));
    await Promise.all(Array.from({ length: Math.min(parallel, works.length) }, () => this.#lane()));
    return this.#results;
  }

  async #lane(): Promise<void> {
    for (let turn = await this.#next(); turn !== undefined; turn = await this.#next()) await this.#take(turn);
  }

  /** The first whose time has come; where all wait, the one that waits least is waited for. */
  async #next(): Promise<Turn | undefined> {
    const { clock, signal } = this.#options.host;
    const nowMillis = clock.monotonicMillis();
    const ready = this.#turns.find(({ notBeforeMillis }) => notBeforeMillis <= nowMillis);
    const turn = ready ?? this.#turns.reduce<Turn | undefined>(earlier, undefined);
    if (turn === undefined) return undefined;
    this.#turns = this.#turns.filter((other) => other !== turn);
    // An interrupted wait is seen by whoever takes the turn.
    if (ready === undefined) await clock.sleep(turn.notBeforeMillis - nowMillis, signal).catch(() => undefined);
    return turn;
  }

  async #take(turn: Turn): Promise<void> {
    const { host, hooks, facts, onEvent, before } = this.#options;
    const { guest } = turn.work;
    const isFirst = turn.attempts === 0;
    if (isFirst) turn.startedMillis = host.clock.nowMillis();
    const refusal = host.signal.aborted ? INTERRUPTED : (turn.work.refusal ?? (await before()));
    if (refusal !== undefined) {
      // Hooks come in pairs.
      if (isFirst) this.#end(turn, refusal);
      else await this.#endWithHook(turn, refusal);
      return;
    }
    if (isFirst) {
      const call = { moment: 'before-guest' as const, guest, facts: { ...facts, VMAR_GUEST: guest } };
      const problem = await hooks.run({ ...call, signal: host.signal });
      if (problem !== undefined) {
        await this.#endWithHook(turn, host.signal.aborted ? INTERRUPTED : failure('hook-failed', problem, 'skipped'));
        return;
      }
    }
    turn.attempts++;
    onEvent({ event: 'guest-begin', guest, attempt: turn.attempts });
    const result = await this.#work(turn);
    if (!result.ok && this.#isToBeTried(result, turn)) return;
    if (result.ok) await this.#endWithHook(turn, OK, result.document);
    else await this.#endWithHook(turn, failure(result.code, result.message, result.outcome), result.document);
  }

  async #work({ work: { guest, words } }: Turn): Promise<ChildResult> {
    const { host, job, datastorePath, onEvent, onWarning } = this.#options;
    return await runChild({
      ...{ program: host.program, datastore: datastorePath, words, signal: host.signal },
      ...timeoutOf(job),
      onLine: (text) => {
        const at = text.indexOf(WARNING);
        if (at < 0) onEvent({ event: 'says', guest, text });
        else onWarning(guest, text.slice(at + WARNING.length));
      },
    });
  }

  /** True if it is put back for another attempt. */
  #isToBeTried(result: ChildResult & { readonly ok: false }, turn: Turn): boolean {
    const { job, host, onEvent } = this.#options;
    const { attempts, delayMillis } = job.retry;
    if (!result.isRetryable || turn.attempts >= attempts || host.signal.aborted) return false;
    turn.notBeforeMillis = host.clock.monotonicMillis() + delayMillis;
    this.#turns.push(turn);
    const { guest } = turn.work;
    const delaySeconds = delayMillis / 1000;
    onEvent({ event: 'retry', guest, attempt: turn.attempts, attempts, delaySeconds, error: result.message });
    return true;
  }

  async #endWithHook(turn: Turn, ending: Ending, document?: JsonObject): Promise<void> {
    const { hooks, facts } = this.#options;
    const result = this.#resultOf(turn, ending, document);
    const { guest } = result;
    const problem = await hooks.run({ moment: 'after-guest', guest, facts: { ...facts, ...guestFacts(result) } });
    if (problem !== undefined) this.#options.onWarning(guest, problem);
    this.#add(result);
  }

  #end(turn: Turn, ending: Ending): void {
    this.#add(this.#resultOf(turn, ending, undefined));
  }

  #add(result: JobGuest): void {
    this.#results.push(result);
    this.#options.onEvent({ event: 'guest-end', result });
  }

  #resultOf({ work, attempts, startedMillis }: Turn, ending: Ending, document: JsonObject | undefined): JobGuest {
    const backup = typeof document?.backup === 'string' ? document.backup : '';
    const counts: JobCounts = document === undefined ? NO_COUNTS : countsOf(document);
    const finishedMillis = this.#options.host.clock.nowMillis();
    return { guest: work.guest, backup, attempts, startedMillis, finishedMillis, ...counts, ...ending };
  }
}

/** A drill keeps to its time itself, and tells how far it came. */
const DRILL_GRACE_MILLIS = 60_000;

function timeoutOf({ kind, timeoutMillis }: JobConfig): { readonly timeoutMillis?: number } {
  if (timeoutMillis === undefined) return {};
  return { timeoutMillis: kind === 'drill' ? timeoutMillis + DRILL_GRACE_MILLIS : timeoutMillis };
}

function earlier(least: Turn | undefined, turn: Turn): Turn {
  return least === undefined || turn.notBeforeMillis < least.notBeforeMillis ? turn : least;
}

function guestFacts({ guest, outcome, backup, error, errorCode, attempts, startedMillis, finishedMillis }: JobGuest) {
  return {
    VMAR_GUEST: guest,
    VMAR_OUTCOME: outcome,
    VMAR_BACKUP: backup,
    VMAR_ERROR: error,
    VMAR_ERROR_CODE: errorCode,
    VMAR_ATTEMPTS: String(attempts),
    VMAR_SECONDS: String((finishedMillis - startedMillis) / 1000),
  };
}
