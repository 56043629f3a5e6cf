// SPDX-License-Identifier: MIT
// One run of a job, from its first hook to its last notification.
//
// Guarantees: what happens to one guest has no bearing on the others. Hooks that come after something run whatever became
// of it. The report is in the datastore before the last hook, which may unmount it. A notification that fails changes
// nothing but what is said. Nothing is made where the datastore is not there.

import type { JobReport } from '../../formats/vmar/job-report.js';
import { MAX_JOB_WARNINGS } from '../../formats/vmar/limits.js';
import { BugError, VmarError } from '../base/errors.js';
import type { Datastore } from '../store/datastore.js';
import { newReportPath, writeReport } from '../store/job-reports.js';
import type { JobConfig } from './config.js';
import { type Ending, endingOf, failure, INTERRUPTED, OK, shortened } from './endings.js';
import { Hooks } from './hooks.js';
import { datastoreOf, type JobHost, jobFacts } from './job-host.js';
import { openJobStore } from './job-store.js';
import { doWork, type WorkDone } from './job-work.js';
import { notify } from './notify.js';
import type { OnEvent } from './run-events.js';

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
  readonly #onEvent: OnEvent;

  constructor(job: JobConfig, host: JobHost) {
    this.#job = job;
    this.#host = host;
    this.#onEvent = host.onEvent;
    this.#startedMillis = host.clock.nowMillis();
    this.#hooks = new Hooks(job.hooks, host.program.env, (event) => this.#seeHook(event));
  }

  async run(): Promise<JobReport> {
    const { path } = datastoreOf(this.#job, this.#host.config);
    this.#onEvent({ event: 'job-begin', kind: this.#job.kind, datastore: path });
    try {
      await this.#work();
      // What it unmounts must have the report first.
      await this.#keepReport();
      await this.#afterJob();
    } finally {
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
      if (this.#ending.outcome !== 'ok') return;
      await doWork(this.#job, this.#done, {
        ...{ host: this.#host, hooks: this.#hooks, store: this.#store, onEvent: this.#onEvent },
        onWarning: (text, guest) => this.#warn(text, guest),
      });
    } catch (error) {
      if (!(error instanceof VmarError) || error instanceof BugError) throw error;
      if (this.#ending.outcome === 'ok') this.#ending = endingOf(error);
    }
  }

  async #afterJob(): Promise<void> {
    const before = JSON.stringify(this.#report(0));
    const facts = { ...jobFacts(this.#job, this.#host.config), ...reportFacts(this.#report()) };
    await this.#hooks.run({ moment: 'after-job', facts });
    const { program, hostName, config } = this.#host;
    for (const problem of await notify(this.#job.notify, {
      ...{ report: this.#report(), facts: { ...jobFacts(this.#job, config), ...reportFacts(this.#report()) } },
      ...{ env: program.env, hostName, onEvent: this.#onEvent, asText: this.#host.asText },
    })) {
      this.#warn(problem);
    }
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
    try {
      this.#reportPath ??= newReportPath(store.root, this.#startedMillis);
      await writeReport(store, this.#reportPath, this.#report());
    } catch (error) {
      if (!(error instanceof VmarError) || error instanceof BugError) throw error;
      const problem = `the report of this run is not kept: ${endingOf(error).error}`;
      this.#warn(problem);
      if (this.#ending.outcome === 'ok') this.#ending = failure('report-failed', problem);
    }
  }

  #report(finishedMillis = this.#host.clock.nowMillis()): JobReport {
    const { name, kind } = this.#job;
    const { hostName, writer } = this.#host;
    const { guests, steps } = this.#done;
    const ending = this.#overall();
    return {
      ...{ job: name, kind, host: hostName, writer, guests, steps, warnings: [...this.#warnings] },
      ...{ startedMillis: this.#startedMillis, finishedMillis, ...ending },
    };
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
