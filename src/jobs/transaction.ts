// SPDX-License-Identifier: MIT
// Jobs that come off together or not at all.

import { InterruptedError, UsageError } from '../base/errors.js';
import type { Job, JobGroup } from './job.js';

export interface TransactionOptions {
  /** Before the first job is started. If it rejects, none is. */
  readonly begin?: () => Promise<void>;
  /** When all jobs are done and prepared: what makes the whole final. If it rejects, all jobs are aborted. */
  readonly finish?: () => Promise<void>;
  /** When it did not come off, after all jobs have ended. Its own error is not told. */
  readonly abort?: (error: unknown) => Promise<void>;
}

type Stage = 'waiting' | 'pending' | 'prepared';

/** Where jobs of the group wait for the last of them. */
interface Barrier {
  readonly arrived: Set<Job>;
  readonly passed: Promise<void>;
  readonly open: () => void;
  readonly refuse: (error: unknown) => void;
}

/**
 * Jobs are made and added first, then started together. One that fails or is cancelled cancels all others. One that is
 * done waits for the others; then all become pending, and concluded.
 */
export class JobTransaction {
  /** Rejects with the error of the job that failed first. Need not be watched. */
  readonly finished: Promise<void>;
  readonly #options: TransactionOptions;
  readonly #jobs: Job[] = [];
  readonly #barriers = new Map<Stage, Barrier>();
  readonly #group: JobGroup = {
    reach: (job, stage) => this.#reach(job, stage),
    failed: (_job, error) => this.#fail(error),
  };
  #isStarted = false;
  #failure: { readonly error: unknown } | undefined;
  #settle: { readonly resolve: () => void; readonly reject: (error: unknown) => void };

  constructor(options: TransactionOptions = {}) {
    this.#options = options;
    let settle = { resolve: () => {}, reject: (_error: unknown) => {} };
    this.finished = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.finished.catch(() => {});
    this.#settle = settle;
  }

  get jobs(): readonly Job[] {
    return this.#jobs;
  }

  /** @throws UsageError if the transaction or the job was started, or the job is in another one */
  add(job: Job): void {
    if (this.#isStarted) throw new UsageError('transaction-started', 'a job came after the start', { object: job.id });
    job.join(this.#group);
    this.#jobs.push(job);
  }

  /** @throws UsageError if it was started before */
  start(): void {
    if (this.#isStarted) throw new UsageError('transaction-started', 'the transaction was started before');
    this.#isStarted = true;
    void this.#live();
  }

  /** Cancels all jobs, unless the end has begun. Before `start`, none will run. */
  cancel(): void {
    if (!this.#isStarted) this.#failure ??= { error: new InterruptedError() };
    for (const job of this.#jobs) job.cancel({ force: true });
  }

  async #live(): Promise<void> {
    try {
      const early = this.#jobs.find((job) => job.error !== undefined);
      if (early) this.#fail(early.error);
      if (!this.#failure) await this.#options.begin?.();
      for (const job of this.#jobs) if (job.status === 'created') job.start();
      if (this.#jobs.length === 0) await this.#options.finish?.();
    } catch (error) {
      this.#fail(error);
    }
    await Promise.allSettled(this.#jobs.map((job) => job.finished));
    if (!this.#failure) return this.#settle.resolve();
    try {
      await this.#options.abort?.(this.#failure.error);
    } catch {}
    this.#settle.reject(this.#failure.error);
  }

  #fail(error: unknown): void {
    if (this.#failure) return;
    this.#failure = { error };
    for (const barrier of this.#barriers.values()) barrier.refuse(error);
    this.cancel();
  }

  #reach(job: Job, stage: Stage): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure.error);
    let barrier = this.#barriers.get(stage);
    if (!barrier) {
      barrier = newBarrier();
      this.#barriers.set(stage, barrier);
    }
    barrier.arrived.add(job);
    if (barrier.arrived.size === this.#jobs.length) void this.#pass(stage, barrier);
    return barrier.passed;
  }

  async #pass(stage: Stage, barrier: Barrier): Promise<void> {
    try {
      if (stage === 'prepared') await this.#options.finish?.();
      barrier.open();
    } catch (error) {
      this.#fail(error);
    }
  }
}

function newBarrier(): Barrier {
  let open = () => {};
  let refuse = (_error: unknown) => {};
  const passed = new Promise<void>((resolve, reject) => {
    open = resolve;
    refuse = reject;
  });
  passed.catch(() => {});
  return { arrived: new Set(), passed, open, refuse };
}
