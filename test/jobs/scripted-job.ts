// SPDX-License-Identifier: MIT
// A job whose steps the test decides, and which notes what is asked of it.

import type { Clock } from '#vmar/src/base/clock.js';
import { REAL_CLOCK } from '#vmar/src/base/clock.js';
import { Job, type JobOptions, type JobStatus } from '#vmar/src/jobs/job.js';

export interface Steps {
  readonly admit: (bytes: number) => Promise<void>;
  readonly pausePoint: () => Promise<void>;
  readonly onError: (where: 'source' | 'target', error: unknown) => Promise<'retry' | 'ignore'>;
  readonly becomeReady: () => Promise<void>;
  readonly waitFor: <T>(promise: Promise<T>) => Promise<T>;
  readonly completed: Promise<void>;
  readonly signal: AbortSignal;
}

export type Script = (steps: Steps) => Promise<void>;

export class ScriptedJob extends Job {
  readonly statuses: JobStatus[] = [];
  readonly hooks: string[] = [];
  /** Hooks of these names fail. */
  readonly failing = new Set<string>();
  /** Whether a ready job that is cancelled makes a good end. */
  isGentle = false;
  readonly #script: Script;
  readonly #completed: Promise<void>;
  #complete = () => {};

  constructor(script: Script = async () => {}, options: Partial<JobOptions> & { clock?: Clock } = {}) {
    const onStatus = (status: JobStatus) => {
      this.statuses.push(status);
      options.onStatus?.(status);
    };
    super('scripted', { clock: REAL_CLOCK, ...options, onStatus });
    this.#script = script;
    this.#completed = new Promise((resolve) => {
      this.#complete = resolve;
    });
  }

  protected override async run(): Promise<void> {
    await this.#script({
      admit: async (bytes) => await this.admit(bytes),
      pausePoint: async () => await this.pausePoint(),
      onError: (where, error) => this.onError(where, error),
      becomeReady: () => this.becomeReady(),
      waitFor: (promise) => this.interruptible(promise),
      completed: this.#completed,
      signal: this.signal,
    });
  }

  protected override cancelGently(): boolean {
    if (!this.isGentle || (this.status !== 'ready' && this.status !== 'standby')) return false;
    this.#complete();
    return true;
  }

  protected override onComplete(): Promise<void> {
    this.#complete();
    return this.#hook('onComplete');
  }

  protected override prepare(): Promise<void> {
    return this.#hook('prepare');
  }

  protected override commit(): Promise<void> {
    return this.#hook('commit');
  }

  protected override abort(): Promise<void> {
    return this.#hook('abort');
  }

  protected override clean(): Promise<void> {
    return this.#hook('clean');
  }

  async #hook(name: string): Promise<void> {
    this.hooks.push(name);
    if (this.failing.has(name)) throw new Error(`${name} failed`);
  }
}
