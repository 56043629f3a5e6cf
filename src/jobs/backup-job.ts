// SPDX-License-Identifier: MIT
// The backup of a guest: one job for each of its disks, and one sink that all of them fill.

import { Limiter } from '../base/bounded-queue.js';
import type { Clock } from '../base/clock.js';
import { BugError, InterruptedError, UsageError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import type { BackupDescription, DumpResult, DumpSink } from '../plugin-api.js';
import { attachTogether, DiskBackupJob, type LiveSource } from './backup-disk-job.js';
import type { BackupSync } from './backup-sync.js';
import { SharedSink, SinkTarget } from './backup-to-sink.js';
import type { ErrorAction, JobIoError } from './job.js';
import { type Gate, newGate } from './job-gate.js';
import { addProgress, type JobProgress } from './progress.js';
import { JobTransaction } from './transaction.js';

const REPORT_MILLIS = 100;

export type BackupJobState =
  | { readonly name: 'created' }
  | { readonly name: 'running' }
  | { readonly name: 'paused' }
  | { readonly name: 'concluded'; readonly outcome: 'done'; readonly result: DumpResult }
  | { readonly name: 'concluded'; readonly outcome: 'failed'; readonly error: unknown };

export interface BackupJobDisk {
  /** Read, not closed. */
  readonly device: BlockDevice;
  /** `full` if untold; `none` makes no whole backup. */
  readonly sync?: BackupSync;
  /** It is a BlockNode that others write through meanwhile. Untold: nobody writes to it. */
  readonly live?: LiveSource;
}

export interface BackupJobOptions {
  /** In the order of `description.disks`. */
  readonly disks: readonly BackupJobDisk[];
  readonly sink: DumpSink;
  readonly description: BackupDescription;
  /** Of what is read; holes are free. 0 is no limit. */
  readonly speedBytesPerSecond: number;
  readonly clock: Clock;
  /** `report` if untold: a read that fails ends the backup. What the sink fails with always does. */
  readonly onSourceError?: ErrorAction;
  readonly onIoError?: (event: JobIoError) => void;
  /** Called at most ten times a second, and when all is read. */
  readonly onProgress?: (progress: JobProgress) => void;
}

/**
 * One backup, to be run once. All disks show one moment: that of the start.
 *
 * The disks' loops run one after another, so that each disk lies in the sink in its own order; copy-before-write is on for
 * all of them from the start. On the first error of a device or the sink, or when cancelled, no new read is started;
 * those under way are awaited, each slot is given to the sink or back, and the sink is aborted before `run` rejects with
 * that first error.
 */
export class BackupJob {
  readonly #options: BackupJobOptions;
  readonly #sink: SharedSink;
  readonly #jobs: readonly DiskBackupJob[];
  readonly #transaction: JobTransaction;
  #state: 'created' | 'running' | 'committing' = 'created';
  #outcome: Extract<BackupJobState, { name: 'concluded' }> | undefined;
  #result: DumpResult | undefined;
  #isCancelled = false;
  /** Closed while the job is paused. */
  #gate: Gate | undefined;
  #reportedMillis: number;

  /** Throws UsageError when disks and description do not match. */
  constructor(options: BackupJobOptions) {
    checkOptions(options);
    const { disks, description, speedBytesPerSecond, clock, onSourceError, onIoError } = options;
    this.#options = options;
    this.#sink = new SharedSink(options.sink);
    this.#reportedMillis = clock.monotonicMillis();
    const turn = new Limiter(1);
    this.#jobs = disks.map(
      ({ device, sync, live }, at) =>
        new DiskBackupJob({
          ...{ id: `backup of ${description.disks[at]?.name}`, clock, speedBytesPerSecond, turn },
          source: device,
          target: new SinkTarget(this.#sink, at),
          onProgress: () => this.#reportSometimes(),
          ...(sync === undefined ? {} : { sync }),
          ...(live === undefined ? {} : { live }),
          ...(onSourceError === undefined ? {} : { onSourceError }),
          ...(onIoError === undefined ? {} : { onIoError }),
        }),
    );
    this.#transaction = new JobTransaction({
      begin: () => this.#begin(),
      finish: () => this.#finish(),
      abort: () => options.sink.abort(),
    });
    for (const job of this.#jobs) this.#transaction.add(job);
  }

  get state(): BackupJobState {
    if (this.#outcome) return this.#outcome;
    if (this.#state === 'created') return { name: 'created' };
    return { name: this.#isPaused ? 'paused' : 'running' };
  }

  /** The jobs of the single disks, in their order. */
  get jobs(): readonly DiskBackupJob[] {
    return this.#jobs;
  }

  progress(): JobProgress {
    return addProgress(this.#jobs.map((job) => job.progress()));
  }

  /** Starts no new read from now on; those under way go on. Before `run`, it starts paused. */
  pause(): void {
    if (this.#gate || this.#outcome) return;
    this.#gate = newGate();
    for (const job of this.#jobs) job.pause();
  }

  /** Goes on, also after a read that failed and stopped it. */
  resume(): void {
    this.#gate?.open();
    this.#gate = undefined;
    for (const job of this.#jobs) job.resume();
  }

  /** `run` rejects with InterruptedError once the sink is aborted. No effect once the sink has begun to finish. */
  cancel(): void {
    if (this.#state === 'committing' || this.#outcome) return;
    this.#isCancelled = true;
    this.#transaction.cancel();
    this.#gate?.open();
    this.#gate = undefined;
  }

  /** Takes effect at once; 0 is no limit. */
  setSpeed(bytesPerSecond: number): void {
    for (const job of this.#jobs) job.setSpeed(bytesPerSecond);
  }

  async run(): Promise<DumpResult> {
    if (this.#state !== 'created') throw new BugError('a backup job is run once');
    this.#state = 'running';
    this.#transaction.start();
    try {
      await this.#transaction.finished;
      const result = this.#result;
      if (!result) throw new BugError('a backup ended without a result');
      this.#outcome = { name: 'concluded', outcome: 'done', result };
      return result;
    } catch (error) {
      this.#outcome = { name: 'concluded', outcome: 'failed', error };
      throw error;
    }
  }

  async #begin(): Promise<void> {
    await this.#sink.call((sink) => sink.begin(this.#options.description));
    if (this.#isCancelled) throw new InterruptedError();
    await attachTogether(this.#jobs);
  }

  /** All disks are read. */
  async #finish(): Promise<void> {
    while (this.#gate) await this.#gate.opened;
    if (this.#isCancelled) throw new InterruptedError();
    this.#state = 'committing';
    this.#report();
    this.#result = await this.#sink.call((sink) => sink.finish());
  }

  get #isPaused(): boolean {
    return this.#gate !== undefined || this.#jobs.some((job) => job.status === 'paused');
  }

  #reportSometimes(): void {
    if (this.#options.clock.monotonicMillis() - this.#reportedMillis >= REPORT_MILLIS) this.#report();
  }

  #report(): void {
    this.#reportedMillis = this.#options.clock.monotonicMillis();
    this.#options.onProgress?.(this.progress());
  }
}

function checkOptions({ disks, description, sink }: BackupJobOptions): void {
  if (disks.length !== description.disks.length) {
    throw new UsageError('disk-mismatch', 'the description names other disks than were given', {
      expected: `${description.disks.length} disks`,
      found: `${disks.length}`,
    });
  }
  for (const [at, { device }] of disks.entries()) {
    const described = description.disks[at]?.sizeBytes;
    if (described === device.lengthBytes) continue;
    throw new UsageError('disk-mismatch', 'the description gives another length for the disk', {
      object: device.name,
      expected: `${described} bytes`,
      found: `${device.lengthBytes} bytes`,
    });
  }
  if (sink.slotBytes % sink.clusterSizeBytes !== 0) throw new BugError('slots are made of whole clusters');
}
