// SPDX-License-Identifier: MIT
// The report of a run while it is under way: in the datastore before the first guest is begun with, and kept up with what
// happens, so that a run that is killed leaves a word. What has not ended yet stands in it as killed.

import { type JobGuest, type JobReport, type JobStep, RUN_KILLED } from '../../formats/vmar/job-report.js';
import type { Clock } from '../base/clock.js';
import type { Datastore } from '../store/datastore.js';
import { writeReport } from '../store/job-reports.js';
import type { Lock } from '../store/locks.js';
import { lockRun, unlockRun } from '../store/run-locks.js';
import { type Ending, failure, NO_COUNTS } from './endings.js';
import type { JobEvent } from './run-events.js';

const KILLED = failure(RUN_KILLED, 'it did not report its end: killed, or cut off by a crash');
const CUT_OFF = failure(RUN_KILLED, 'the run was killed while this was under way');
const NOT_BEGUN = failure(RUN_KILLED, 'the run was killed before this was begun');

/** Writing takes at most a tenth of the time: a report of thousands of guests is long. */
const PAUSES = 10;

/** What a report has besides guests, steps and how it ended. */
export type RunFacts = Pick<JobReport, 'job' | 'kind' | 'host' | 'writer' | 'startedMillis' | 'warnings'>;

export interface RecordOptions {
  readonly store: Datastore;
  /** Of the report. */
  readonly path: string;
  readonly clock: Clock;
  readonly facts: () => RunFacts;
}

export class RunRecord {
  readonly #options: RecordOptions;
  readonly #lock: Lock;
  readonly #ended: JobGuest[] = [];
  readonly #begun = new Map<string, JobGuest>();
  readonly #waiting = new Map<string, JobGuest>();
  readonly #steps: JobStep[] = [];
  #step: JobStep | undefined;
  #isBehind = false;
  #writing: Promise<void> | undefined;
  #hurry = new AbortController();

  private constructor(options: RecordOptions, lock: Lock) {
    this.#options = options;
    this.#lock = lock;
  }

  /** Once it resolves, it is durable that the run has begun. @throws FailedError if that cannot be written */
  static async begin(options: RecordOptions): Promise<RunRecord> {
    const { store, path } = options;
    const lock = await lockRun(store, path);
    const record = new RunRecord(options, lock);
    try {
      await writeReport(store, path, record.#report());
    } catch (error) {
      await record.close();
      throw error;
    }
    return record;
  }

  see(event: JobEvent): void {
    switch (event.event) {
      case 'guests':
        for (const guest of event.guests) this.#waiting.set(guest, this.#guest(guest, 0, NOT_BEGUN));
        break;
      case 'guest-begin':
        this.#waiting.delete(event.guest);
        this.#begun.set(event.guest, this.#guest(event.guest, event.attempt, CUT_OFF));
        break;
      case 'guest-end':
        this.#waiting.delete(event.result.guest);
        this.#begun.delete(event.result.guest);
        this.#ended.push(event.result);
        break;
      case 'step-begin':
        this.#step = { step: event.step, attempts: 1, summary: '', ...this.#times(), ...CUT_OFF };
        break;
      case 'step-end':
        this.#step = undefined;
        this.#steps.push(event.result);
        break;
      default:
        return;
    }
    this.#isBehind = true;
    this.#writing ??= this.#write();
    // Whoever settles it is told.
    this.#writing.catch(() => undefined);
  }

  /** Resolves once all that was seen is durable and nothing is being written. @throws FailedError if it could not be */
  async settle(): Promise<void> {
    this.#hurry.abort();
    try {
      await this.#writing;
    } finally {
      this.#hurry = new AbortController();
    }
  }

  /** From now on the report is that of a run that has ended. May be called twice; never rejects. */
  async close(): Promise<void> {
    await this.settle().catch(() => undefined);
    await unlockRun(this.#options.store, this.#lock);
  }

  /** Where it fails it is left at that, and tried no more. */
  async #write(): Promise<void> {
    const { store, path, clock } = this.#options;
    while (this.#isBehind) {
      this.#isBehind = false;
      const startMillis = clock.monotonicMillis();
      await writeReport(store, path, this.#report());
      const tookMillis = clock.monotonicMillis() - startMillis;
      await clock.sleep(PAUSES * tookMillis, this.#hurry.signal).catch(() => undefined);
    }
    this.#writing = undefined;
  }

  #report(): JobReport {
    const guests = [...this.#ended, ...this.#begun.values(), ...this.#waiting.values()];
    const steps = [...this.#steps, ...(this.#step === undefined ? [] : [this.#step])];
    const finishedMillis = this.#options.clock.nowMillis();
    return { ...this.#options.facts(), guests, steps, finishedMillis, ...KILLED };
  }

  #guest(guest: string, attempts: number, ending: Ending): JobGuest {
    return { guest, backup: '', attempts, ...NO_COUNTS, ...this.#times(), ...ending };
  }

  #times() {
    const nowMillis = this.#options.clock.nowMillis();
    return { startedMillis: nowMillis, finishedMillis: nowMillis };
  }
}
