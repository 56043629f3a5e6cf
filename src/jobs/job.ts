// SPDX-License-Identifier: MIT
// What every job has: states, speed, pause, cancel, complete, progress, and what it does about errors.

import type { Clock } from '../base/clock.js';
import { InterruptedError, UsageError } from '../base/errors.js';
import {
  actionFor,
  type ErrorAction,
  type ErrorSide,
  type IoStatus,
  isNoSpace,
  type JobIoError,
} from './job-errors.js';
import { type Gate, newGate } from './job-gate.js';
import { checkTransition, type JobStatus } from './job-status.js';
import { type JobProgress, ProgressCounter } from './progress.js';
import { RateLimit } from './rate-limit.js';

export type { ErrorAction, ErrorSide, IoStatus, JobIoError } from './job-errors.js';
export type { JobStatus } from './job-status.js';

export interface JobOptions {
  /** For messages and events; the kind if untold. */
  readonly id?: string;
  readonly clock: Clock;
  /** 0, the default, is no limit. */
  readonly speedBytesPerSecond?: number;
  /** `report` if untold. */
  readonly onSourceError?: ErrorAction;
  readonly onTargetError?: ErrorAction;
  /** Each change of status, at once. Must not throw. */
  readonly onStatus?: (status: JobStatus) => void;
  /** Called at most ten times a second, and when the work is done. */
  readonly onProgress?: (progress: JobProgress) => void;
  /** Each operation that failed, and what is done about it. */
  readonly onIoError?: (event: JobIoError) => void;
}

/** The jobs that a job ends together with; see JobTransaction. */
export interface JobGroup {
  /** Resolves when all of the group have reached the stage; rejects once one has failed. */
  reach(job: Job, stage: 'waiting' | 'pending' | 'prepared'): Promise<void>;
  /** The job goes no further. */
  failed(job: Job, error: unknown): void;
}

/**
 * Something long that is done once, in the background.
 *
 * A job is made, started, and ends by itself or by `cancel`; a kind of job that becomes `ready` ends by `complete`. Its
 * first error is its outcome: nothing new is begun after it, `finished` rejects with it once all is cleared up.
 *
 * While paused no new operation is begun; those under way end by themselves.
 */
export abstract class Job {
  readonly id: string;
  /** Rejects with the job's error. Need not be watched. */
  readonly finished: Promise<void>;
  /** Aborts when the job fails or is cancelled: hand it to whatever may wait long. */
  protected readonly signal: AbortSignal;
  protected readonly clock: Clock;
  protected readonly counter: ProgressCounter;
  readonly #options: JobOptions;
  readonly #rate: RateLimit;
  readonly #stop = new AbortController();
  #status: JobStatus = 'created';
  #ioStatus: IoStatus = 'ok';
  #failure: { readonly error: unknown } | undefined;
  #paused: Gate | undefined;
  #group: JobGroup | undefined;
  /** Ends what was wrapped in `interruptible`. */
  readonly #waits = new Set<(error: unknown) => void>();
  /** The last of those who wait for the speed limit, which takes one at a time. */
  #admitting: Promise<void> | undefined;
  #settle: { readonly resolve: () => void; readonly reject: (error: unknown) => void };

  constructor(
    /** "backup", "mirror", "stream". */
    readonly kind: string,
    options: JobOptions,
    totalBytes = 0,
  ) {
    this.id = options.id ?? kind;
    this.clock = options.clock;
    this.signal = this.#stop.signal;
    this.#options = options;
    this.#rate = new RateLimit(options.clock, options.speedBytesPerSecond ?? 0);
    this.counter = new ProgressCounter(totalBytes, options.clock, options.onProgress);
    let settle = { resolve: () => {}, reject: (_error: unknown) => {} };
    this.finished = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.finished.catch(() => {});
    this.#settle = settle;
  }

  get status(): JobStatus {
    return this.#status;
  }

  /** Why it failed, as soon as that is known; undefined for a job that goes well. */
  get error(): unknown {
    return this.#failure?.error;
  }

  get ioStatus(): IoStatus {
    return this.#ioStatus;
  }

  progress(): JobProgress {
    return this.counter.snapshot();
  }

  /** @throws UsageError if it was started before */
  start(): void {
    if (this.#status !== 'created') throw this.#refused('job-started', 'it was started before');
    if (this.#failure) return;
    this.#enter('running');
    if (this.#paused) this.#enter('paused');
    void this.#live();
  }

  /** Begins nothing new from now on, also what waits for the speed limit. No effect once its work is done. */
  pause(): void {
    if (this.#paused || !this.#canPause) return;
    this.#paused = newGate();
    if (this.#status === 'running') this.#enter('paused');
    if (this.#status === 'ready') this.#enter('standby');
    this.wake();
  }

  /** Goes on, also after an error that stopped it; what failed is tried again. */
  resume(): void {
    this.#ioStatus = 'ok';
    this.#unpause();
    this.wake();
  }

  /**
   * Ends the job with an InterruptedError, unless its kind has a gentle end for where it stands (mirror: ready) and
   * `force` is not set. No effect once the job is pending.
   */
  cancel(options: { force?: boolean } = {}): void {
    if (this.#status === 'pending' || this.#status === 'concluded' || this.#failure) return;
    if (options.force !== true && this.#status !== 'waiting' && this.cancelGently()) {
      this.resume();
      return;
    }
    const wasCreated = this.#status === 'created';
    this.fail(new InterruptedError());
    if (wasCreated) void this.#live();
  }

  /** Asks a ready job to make its end. Resolves when it has begun to; `finished` tells the outcome. */
  async complete(): Promise<void> {
    if (this.#status !== 'ready' || this.#failure) {
      throw this.#refused('job-not-ready', `it cannot be completed while it is ${this.#status}`);
    }
    await this.onComplete();
    this.wake();
  }

  /** Takes effect at once; 0 is no limit. */
  setSpeed(bytesPerSecond: number): void {
    this.#rate.setSpeed(bytesPerSecond);
    this.wake();
  }

  /** Makes it one of a group; for JobTransaction. */
  join(group: JobGroup): void {
    if (this.#status !== 'created') throw this.#refused('job-started', 'it was started before');
    if (this.#group) throw this.#refused('job-in-transaction', 'it is in a transaction already');
    this.#group = group;
  }

  /**
   * The work. Ends when all is done and nothing is under way any more, also when it rejects: once `signal` has aborted
   * it comes to an end soon.
   */
  protected abstract run(): Promise<void>;

  /** All jobs of the transaction are pending: the last step that may fail. If one does, all are aborted. */
  protected async prepare(): Promise<void> {}

  /** The job, and all of its transaction, came off. Must not fail. */
  protected async commit(): Promise<void> {}

  /** It did not come off; called also if it never ran. Must not fail. */
  protected async abort(): Promise<void> {}

  /** In both cases, last. Must not fail. */
  protected async clean(): Promise<void> {}

  /** Called by `complete` of a ready job. */
  protected async onComplete(): Promise<void> {
    throw this.#refused('job-not-ready', 'it ends by itself');
  }

  /** True if the job makes a good end of its own now that it was cancelled. */
  protected cancelGently(): boolean {
    return false;
  }

  /** Something changed that a waiting `run` may look at: pause, resume, cancel, complete, speed. */
  protected wake(): void {}

  protected get isPaused(): boolean {
    return this.#paused !== undefined;
  }

  /** To be passed before anything new is begun: waits while paused. @throws the job's error once it has one */
  protected pausePoint(): Promise<void> | undefined {
    if (this.#failure) throw this.#failure.error;
    return this.#paused ? this.#waitWhilePaused() : undefined;
  }

  async #waitWhilePaused(): Promise<void> {
    while (this.#paused) await this.interruptible(this.#paused.opened);
    if (this.#failure) throw this.#failure.error;
  }

  /** Waits until the speed limit lets `bytes` more be done, and while paused. @throws the job's error once it has one */
  protected admit(bytes: number): Promise<void> | undefined {
    if (this.#failure) throw this.#failure.error;
    if (this.#admitting) return this.#admitLater(this.#admitting, bytes);
    const admission = this.#rate.admit(bytes, this.signal);
    return admission ? this.#admitLater(admission, undefined) : this.pausePoint();
  }

  async #admitLater(before: Promise<void>, bytes: number | undefined): Promise<void> {
    const turn = before.then(() => (bytes === undefined ? undefined : this.#rate.admit(bytes, this.signal)));
    const over = turn.catch(() => {});
    this.#admitting = over;
    try {
      await this.interruptible(turn);
    } finally {
      if (this.#admitting === over) this.#admitting = undefined;
    }
    await this.pausePoint();
  }

  /**
   * What to do about a failed operation, by the policy for its side: `retry` (after a stop: once resumed), or `ignore`.
   * @throws the error where the policy is to report it, which the job then fails with, and the job's error if it has one
   */
  protected async onError(where: ErrorSide, error: unknown): Promise<'retry' | 'ignore'> {
    if (this.#failure) throw this.#failure.error;
    const { onSourceError = 'report', onTargetError = 'report', onIoError } = this.#options;
    const action = actionFor(where === 'source' ? onSourceError : onTargetError, error);
    onIoError?.({ where, action, error });
    if (action === 'ignore') return 'ignore';
    if (action === 'report') {
      this.fail(error);
      throw this.#failure ? (this.#failure as { error: unknown }).error : error;
    }
    await this.#stopFor(error);
    return 'retry';
  }

  /** Stops for an error that no policy may pass over; resolves once resumed. @throws the job's error once it has one */
  protected async stopFor(where: ErrorSide, error: unknown): Promise<void> {
    if (this.#failure) throw this.#failure.error;
    this.#options.onIoError?.({ where, action: 'stop', error });
    await this.#stopFor(error);
  }

  async #stopFor(error: unknown): Promise<void> {
    // The first error is the one to tell of.
    if (this.#ioStatus === 'ok') this.#ioStatus = isNoSpace(error) ? 'nospace' : 'failed';
    this.pause();
    await this.pausePoint();
  }

  /** The job fails with this error unless it has one already: nothing new is begun. */
  protected fail(error: unknown): void {
    if (this.#failure || this.#status === 'concluded') return;
    this.#failure = { error };
    this.#unpause();
    this.#stop.abort();
    for (const reject of [...this.#waits]) reject(error);
    this.wake();
  }

  /** As the promise, unless the job fails before that settles. */
  protected interruptible<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const stop = (error: unknown) => {
        this.#waits.delete(stop);
        reject(error);
      };
      this.#waits.add(stop);
      promise.then(
        (value) => {
          this.#waits.delete(stop);
          resolve(value);
        },
        (error: unknown) => stop(error),
      );
      if (this.#failure) stop(this.#failure.error);
    });
  }

  /** From running to ready; waits while paused. */
  protected async becomeReady(): Promise<void> {
    await this.pausePoint();
    this.#enter('ready');
  }

  async #live(): Promise<void> {
    try {
      await this.#work();
      await this.#conclude();
    } catch (caught) {
      this.fail(caught);
      await this.#giveUp();
    }
    await this.#quietly(() => this.clean());
    this.#enter('concluded');
    if (this.#failure) this.#settle.reject(this.#failure.error);
    else this.#settle.resolve();
  }

  async #work(): Promise<void> {
    await this.pausePoint();
    await this.run();
    await this.pausePoint();
    this.counter.report();
    this.#enter('waiting');
  }

  /** The steps of the ending, each taken by all jobs of the transaction before one takes the next. */
  async #conclude(): Promise<void> {
    const group = this.#group;
    if (group) await this.interruptible(group.reach(this, 'waiting'));
    await this.pausePoint();
    this.#enter('pending');
    await group?.reach(this, 'pending');
    await this.prepare();
    await group?.reach(this, 'prepared');
    await this.commit();
  }

  async #giveUp(): Promise<void> {
    if (this.#status !== 'aborting') this.#enter('aborting');
    this.#group?.failed(this, this.error);
    await this.#quietly(() => this.abort());
  }

  /** What went wrong first is told; that clearing up failed as well adds nothing. */
  async #quietly(step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch {}
  }

  get #canPause(): boolean {
    if (this.#failure) return false;
    return this.#status === 'created' || this.#status === 'running' || this.#status === 'ready';
  }

  #unpause(): void {
    const gate = this.#paused;
    this.#paused = undefined;
    if (this.#status === 'paused') this.#enter('running');
    if (this.#status === 'standby') this.#enter('ready');
    gate?.open();
  }

  #enter(status: JobStatus): void {
    checkTransition(this.id, this.#status, status);
    this.#status = status;
    this.#options.onStatus?.(status);
  }

  #refused(code: string, message: string): UsageError {
    return new UsageError(code, `job ${this.id}: ${message}`, { object: this.id });
  }
}
