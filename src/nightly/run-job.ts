// SPDX-License-Identifier: MIT
// One run of a job, from its first hook to its last notification.
//
// Guarantees: what happens to one guest has no bearing on the others. Hooks that come after something run whatever became
// of it. Before the first guest is begun with, the datastore knows of the run. The report is there before the last hook,
// which may unmount it. A notification that fails changes
// nothing but what is said. Nothing is made where the datastore is not there.

import type { JobReport } from '../../formats/vmar/job-report.js';
import { MAX_JOB_WARNINGS } from '../../formats/vmar/limits.js';
import { formatTime } from '../../formats/vmar/names.js';
import { BugError, VmarError } from '../base/errors.js';
import type { Datastore } from '../store/datastore.js';
import { newReportPath, writeReport } from '../store/job-reports.js';
import type { JobConfig } from './config.js';
import { type Ending, endingOf, failure, INTERRUPTED, OK, shortened } from './endings.js';
import { killedBefore } from './history.js';
import { Hooks } from './hooks.js';
import { datastoreOf, type JobHost, jobFacts } from './job-host.js';
import { openJobStore } from './job-store.js';
import { doWork, type WorkDone } from './job-work.js';
import { notify } from './notify.js';
import type { OnEvent } from './run-events.js';
import { type RunFacts, RunRecord } from './run-record.js';

/** Rejects for errors of the program only: what fails is in the report. */
export async function runJob(job: JobConfig, host: JobHost): Promise<JobReport> {
  return await new JobRun(job, host).run();
}

class JobRun {
  readonly #job: JobConfig;
  readonly #host: JobHost;
  readonly #hooks: Hooks;
  readonly #startedMillis: number;
  readonly #done: WorkDone = { guests: [], steps: [] };
  readonly #warnings: string[] = [];
  #ending: Ending = OK;
  #store: Datastore | undefined;
  #reportPath: string | undefined;
  #record: RunRecord | undefined;
  readonly #onEvent: OnEvent;

  constructor(job: JobConfig, host: JobHost) {
    this.#job = job;
    this.#host = host;
    this.#onEvent = (event) => {
      host.onEvent(event);
      this.#record?.see(event);
    };
    this.#startedMillis = host.clock.nowMillis();
    this.#hooks = new Hooks(job.hooks, host.program.env, (event) => this.#seeHook(event));
  }

  async run(): Promise<JobReport> {
    const { path } = datastoreOf(this.#job, this.#host.config);
    this.#onEvent({ event: 'job-begin', kind: this.#job.kind, datastore: path });
    for (const warning of this.#host.warnings) this.#warn(warning);
    try {
      await this.#work();
      // What it unmounts must have the report first.
      await this.#keepReport();
      await this.#afterJob();
    } finally {
      await this.#record?.close();
      await this.#store?.close();
    }
    const report = this.#report();
    this.#onEvent({ event: 'job-end', report });
    return report;
  }

  async #work(): Promise<void> {
    const { signal, config } = this.#host;
    const facts = jobFacts(this.#job, config);
    const problem = await this.#hooks.run({ moment: 'before-job', facts, signal });
    try {
      if (signal.aborted) this.#ending = INTERRUPTED;
      else if (problem !== undefined) this.#ending = failure('hook-failed', problem, 'skipped');
      // The hook may have mounted it.
      this.#store = await openJobStore(datastoreOf(this.#job, config), this.#host.openStore);
      const told = this.#tellOf(await this.#killedBefore(this.#store));
      try {
        if (this.#ending.outcome === 'ok') await this.#workIn(this.#store);
      } finally {
        await told;
      }
    } catch (error) {
      if (!(error instanceof VmarError) || error instanceof BugError) throw error;
      if (this.#ending.outcome === 'ok') this.#ending = endingOf(error);
    }
  }

  async #workIn(store: Datastore): Promise<void> {
    const { clock } = this.#host;
    this.#reportPath = newReportPath(store.root, this.#startedMillis);
    try {
      this.#record = await RunRecord.begin({ store, path: this.#reportPath, clock, facts: () => this.#facts() });
    } catch (error) {
      this.#warn(`nothing tells of this run while it is under way: ${problemOf(error)}`);
    }
    await doWork(this.#job, this.#done, {
      ...{ host: this.#host, hooks: this.#hooks, store, onEvent: this.#onEvent },
      onWarning: (text, guest) => this.#warn(text, guest),
      onBeforeStep: () => this.#settleRecord(),
    });
  }

  /** Nothing is written behind the back of gc, which waits for whoever is writing. */
  async #settleRecord(): Promise<void> {
    try {
      await this.#record?.settle();
    } catch (error) {
      this.#warn(`nothing tells of this run any more while it is under way: ${problemOf(error)}`);
    }
  }

  /** What cannot be looked at is no reason not to run. */
  async #killedBefore(store: Datastore): Promise<JobReport | undefined> {
    try {
      return await killedBefore(store, { job: this.#job.name, host: this.#host.hostName });
    } catch (error) {
      this.#warn(`what became of the run before this is not known: ${problemOf(error)}`);
      return undefined;
    }
  }

  /** The one that was killed could tell nobody. */
  async #tellOf(killed: JobReport | undefined): Promise<void> {
    if (killed === undefined) return;
    const { guests, startedMillis, error } = killed;
    const good = guests.filter(({ outcome }) => outcome === 'ok').length;
    const many = guests.length === 0 ? '' : ` (${good} of ${guests.length} guests were done)`;
    const begun = formatTime(Math.floor(startedMillis / 1000));
    this.#warn(`the last run of this job, begun ${begun}: ${error}${many}`);
    await this.#notify(killed);
  }

  async #notify(report: JobReport): Promise<void> {
    const { program, hostName, config, asText } = this.#host;
    for (const problem of await notify(this.#job.notify, {
      ...{ report, facts: { ...jobFacts(this.#job, config), ...reportFacts(report) } },
      ...{ env: program.env, hostName, onEvent: this.#onEvent, asText },
    })) {
      this.#warn(problem);
    }
  }

  async #afterJob(): Promise<void> {
    const before = JSON.stringify(this.#report(0));
    const facts = { ...jobFacts(this.#job, this.#host.config), ...reportFacts(this.#report()) };
    await this.#hooks.run({ moment: 'after-job', facts });
    await this.#notify(this.#report());
    if (JSON.stringify(this.#report(0)) !== before) await this.#keepReport();
  }

  /** Something that a hook was to do after a guest or the job was not done: the job as a whole has not gone well. */
  #seeHook(event: Parameters<OnEvent>[0]): void {
    this.#onEvent(event);
    if (event.event !== 'hook-end' || event.error === undefined) return;
    if (!event.moment.startsWith('after') || this.#ending.outcome !== 'ok') return;
    const whose = event.guest === undefined ? '' : `${event.guest}: `;
    this.#ending = failure('hook-failed', `${whose}${event.error}`);
  }

  #warn(text: string, guest?: string): void {
    this.#onEvent({ event: 'warning', text, ...(guest === undefined ? {} : { guest }) });
    const warning = shortened(guest === undefined ? text : `${guest}: ${text}`);
    if (this.#warnings.length < MAX_JOB_WARNINGS) this.#warnings.push(warning);
  }

  /** That it cannot be kept is said, and counts: nobody would find the run in the history. */
  async #keepReport(): Promise<void> {
    const store = this.#store;
    if (store === undefined) {
      this.#warn('the report of this run is not kept: the datastore is not there');
      return;
    }
    await this.#settleRecord();
    try {
      this.#reportPath ??= newReportPath(store.root, this.#startedMillis);
      await writeReport(store, this.#reportPath, this.#report());
    } catch (error) {
      const problem = `the report of this run is not kept: ${problemOf(error)}`;
      this.#warn(problem);
      if (this.#ending.outcome === 'ok') this.#ending = failure('report-failed', problem);
    }
    // The last hook may unmount it: nothing of it stays open.
    await this.#record?.close();
  }

  #report(finishedMillis = this.#host.clock.nowMillis()): JobReport {
    const { guests, steps } = this.#done;
    return { ...this.#facts(), guests, steps, finishedMillis, ...this.#overall() };
  }

  #facts(): RunFacts {
    const { name, kind } = this.#job;
    const { hostName, writer } = this.#host;
    const [startedMillis, warnings] = [this.#startedMillis, [...this.#warnings]];
    return { job: name, kind, host: hostName, writer, startedMillis, warnings };
  }

  /** Interrupted counts before failed: what else went wrong may be of it. */
  #overall(): Ending {
    const { guests, steps } = this.#done;
    const parts = [
      ...guests.map(({ guest, ...ending }) => ({ name: guest, ...ending })),
      ...steps.map(({ step, ...ending }) => ({ name: step, ...ending })),
    ];
    if ([this.#ending, ...parts].some(({ outcome }) => outcome === 'interrupted')) return INTERRUPTED;
    const [first, ...others] = parts.filter(({ outcome }) => outcome !== 'ok');
    if (this.#ending.outcome !== 'ok' || first === undefined) return this.#ending;
    const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
    return failure(first.errorCode, `${first.name}: ${first.error}${more}`);
  }
}

/** @throws errors of the program */
function problemOf(error: unknown): string {
  if (error instanceof BugError) throw error;
  return endingOf(error).error;
}

/** What hooks and notifications find in their environment about the end of a job. */
function reportFacts(report: JobReport) {
  const { outcome, error, errorCode, guests, startedMillis, finishedMillis } = report;
  const failed = guests.filter((guest) => guest.outcome !== 'ok');
  return {
    VMAR_OUTCOME: outcome,
    VMAR_ERROR: error,
    VMAR_ERROR_CODE: errorCode,
    VMAR_GUESTS: String(guests.length),
    VMAR_GUESTS_OK: String(guests.length - failed.length),
    VMAR_GUESTS_FAILED: failed.map(({ guest }) => guest).join(' '),
    VMAR_SECONDS: String((finishedMillis - startedMillis) / 1000),
  };
}
