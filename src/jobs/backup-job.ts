// SPDX-License-Identifier: MIT
// The backup job: walks the disks of a guest and hands every cluster to a sink, once.

import { Limiter } from '../base/bounded-queue.js';
import type { Clock } from '../base/clock.js';
import { BugError, InterruptedError, UsageError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { grew, shrank } from '../block/file-errors.js';
import { isMeasured } from '../block/measured-device.js';
import { type BackupDescription, type DumpResult, type DumpSink, ZERO } from '../plugin-api.js';
import { type JobProgress, ProgressCounter } from './progress.js';
import { RateLimit } from './rate-limit.js';
import { type Segment, segments } from './segments.js';

/** Enough that the disk always has a next request. */
const READS_IN_FLIGHT = 4;

export type BackupJobState =
  | { readonly name: 'created' }
  | { readonly name: 'running' }
  | { readonly name: 'paused' }
  | { readonly name: 'concluded'; readonly outcome: 'done'; readonly result: DumpResult }
  | { readonly name: 'concluded'; readonly outcome: 'failed'; readonly error: unknown };

export interface BackupJobOptions {
  /** In the order of `description.disks`. They are read, not closed. */
  readonly disks: readonly { readonly device: BlockDevice }[];
  readonly sink: DumpSink;
  readonly description: BackupDescription;
  /** Of what is read; holes are free. 0 is no limit. */
  readonly speedBytesPerSecond: number;
  readonly clock: Clock;
  /** Called at most ten times a second, and when all is read. */
  readonly onProgress?: (progress: JobProgress) => void;
}

/** Something that can be opened later by calling `open`. */
interface Gate {
  readonly opened: Promise<void>;
  readonly open: () => void;
}

/**
 * One backup, to be run once.
 *
 * Disks are walked in turn, up to READS_IN_FLIGHT slots ahead of the sink. On the first error of a device or the sink,
 * or when cancelled, no new read is started; those under way are awaited, each slot is given to the sink or back, and
 * the sink is aborted before `run` rejects with that first error.
 */
export class BackupJob {
  readonly #options: BackupJobOptions;
  readonly #sink: DumpSink;
  readonly #rate: RateLimit;
  readonly #progress: ProgressCounter;
  readonly #reads = new Limiter(READS_IN_FLIGHT);
  /** Reads and dumps that were started and have not ended; they never reject. */
  readonly #underWay = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  #state: BackupJobState = { name: 'created' };
  /** Why nothing new is to be started. */
  #failure: { readonly error: unknown } | undefined;
  /** Ends what the walk waits for. */
  #interrupt: ((error: unknown) => void) | undefined;
  /** Closed while the job is paused. */
  #gate: Gate | undefined;
  #committing = false;

  /** Throws UsageError when disks and description do not match. */
  constructor(options: BackupJobOptions) {
    checkOptions(options);
    this.#options = options;
    this.#sink = options.sink;
    this.#rate = new RateLimit(options.clock, options.speedBytesPerSecond);
    const totalBytes = options.disks.reduce((sum, { device }) => sum + device.lengthBytes, 0);
    this.#progress = new ProgressCounter(totalBytes, options.clock, options.onProgress);
  }

  get state(): BackupJobState {
    return this.#state;
  }

  progress(): JobProgress {
    return this.#progress.snapshot();
  }

  /** Starts no new read from now on; those under way go on. Before `run`, it starts paused. */
  pause(): void {
    if (this.#gate || this.#state.name === 'concluded') return;
    let open = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.#gate = { opened, open };
    if (this.#state.name === 'running') this.#state = { name: 'paused' };
  }

  resume(): void {
    this.#gate?.open();
    this.#gate = undefined;
    if (this.#state.name === 'paused') this.#state = { name: 'running' };
  }

  /** `run` rejects with InterruptedError once the sink is aborted. No effect once the sink has begun to finish. */
  cancel(): void {
    if (!this.#committing && this.#state.name !== 'concluded') this.#fail(new InterruptedError());
  }

  /** Takes effect at once; 0 is no limit. */
  setSpeed(bytesPerSecond: number): void {
    this.#rate.setSpeed(bytesPerSecond);
  }

  async run(): Promise<DumpResult> {
    if (this.#state.name !== 'created') throw new BugError('a backup job is run once');
    this.#state = { name: this.#gate ? 'paused' : 'running' };
    try {
      const result = await this.#backUp();
      this.#state = { name: 'concluded', outcome: 'done', result };
      return result;
    } catch (caught) {
      this.#fail(caught);
      const error = this.#failure?.error;
      await this.#settle();
      await this.#abort();
      this.#state = { name: 'concluded', outcome: 'failed', error };
      throw error;
    }
  }

  /** What went wrong first is told; that clearing up failed as well adds nothing. */
  async #abort(): Promise<void> {
    try {
      await this.#sink.abort();
    } catch {}
  }

  async #backUp(): Promise<DumpResult> {
    this.#checkGoing();
    await this.#sink.begin(this.#options.description);
    for (const [disk, { device }] of this.#options.disks.entries()) await this.#walk(disk, device);
    await this.#settle();
    this.#checkGoing();
    for (const { device } of this.#options.disks) await checkLength(device);
    await this.#passGate();
    this.#progress.report();
    this.#committing = true;
    return await this.#sink.finish();
  }

  async #walk(disk: number, device: BlockDevice): Promise<void> {
    for await (const segment of segments(device, this.#sink.clusterSizeBytes, this.#sink.slotBytes)) {
      if (segment.kind === 'zero') await this.#dumpHole(disk, segment);
      else await this.#startCopy(disk, device, segment);
    }
  }

  async #dumpHole(disk: number, hole: Segment): Promise<void> {
    await this.#passGate();
    const { clusterSizeBytes } = this.#sink;
    const count = Math.ceil(hole.lengthBytes / clusterSizeBytes);
    const dumping = this.#sink.dumpRange(disk, hole.offsetBytes / clusterSizeBytes, count, ZERO);
    await this.#interruptible(this.#track(dumping.then(() => this.#progress.addZero(hole.lengthBytes))));
  }

  /** Resolves when the read is under way, not when it is done. */
  async #startCopy(disk: number, device: BlockDevice, data: Segment): Promise<void> {
    if (this.#sink.dumpFrom !== undefined && hasDescriptor(device)) return await this.#letSinkRead(disk, device, data);
    const place = this.#reads.enter();
    if (place) await this.#interruptible(place);
    const admission = this.#rate.admit(data.lengthBytes, this.#stop.signal);
    if (admission) await this.#interruptible(admission);
    this.#checkGoing();
    const slot = await this.#lease();
    try {
      await this.#passGate();
    } catch (error) {
      this.#sink.release(slot);
      throw error;
    }
    void this.#track(this.#copy(disk, device, data, slot));
  }

  /** The sink's threads read: the data never passes through this one. */
  async #letSinkRead(disk: number, device: BlockDevice & { fd: number }, data: Segment): Promise<void> {
    const admission = this.#rate.admit(data.lengthBytes, this.#stop.signal);
    if (admission) await this.#interruptible(admission);
    await this.#passGate();
    const cluster = data.offsetBytes / this.#sink.clusterSizeBytes;
    const dumping = this.#sink.dumpFrom!(disk, cluster, data.lengthBytes, device);
    await this.#interruptible(this.#track(dumping.then(() => this.#progress.addRead(data.lengthBytes))));
    this.#checkGoing();
  }

  /** Reads into the slot and hands it over; gives it back where that must not happen any more. */
  async #copy(disk: number, device: BlockDevice, data: Segment, slot: Uint8Array): Promise<void> {
    const bytes = data.lengthBytes === slot.byteLength ? slot : slot.subarray(0, data.lengthBytes);
    try {
      await device.read(data.offsetBytes, bytes);
    } catch (error) {
      this.#fail(error);
    }
    this.#reads.leave();
    if (this.#failure) {
      this.#sink.release(slot);
      return;
    }
    await this.#sink.dump(disk, data.offsetBytes / this.#sink.clusterSizeBytes, bytes);
    this.#progress.addRead(data.lengthBytes);
  }

  async #lease(): Promise<Uint8Array> {
    const lease = this.#sink.lease();
    try {
      return await this.#interruptible(lease);
    } catch (error) {
      // It may still be granted, before or after the abort.
      lease.then((slot) => this.#sink.release(slot)).catch(() => {});
      throw error;
    }
  }

  /** Waits while paused; throws once the job has failed. */
  async #passGate(): Promise<void> {
    while (this.#gate) await this.#interruptible(this.#gate.opened);
    this.#checkGoing();
  }

  #checkGoing(): void {
    if (this.#failure) throw this.#failure.error;
  }

  /** Remembers the first error and wakes the walk. */
  #fail(error: unknown): void {
    if (this.#failure) return;
    this.#failure = { error };
    this.#stop.abort();
    this.#interrupt?.(error);
  }

  /** As the promise, unless the job fails before; for the walk, which waits for one thing at a time. */
  #interruptible<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#interrupt = reject;
      promise.then(resolve, reject);
      if (this.#failure) reject(this.#failure.error);
    });
  }

  /** Makes it one of those under way; its error becomes the job's. */
  #track(work: Promise<void>): Promise<void> {
    const tracked = work
      .catch((error: unknown) => this.#fail(error))
      .then(() => {
        this.#underWay.delete(tracked);
      });
    this.#underWay.add(tracked);
    return tracked;
  }

  async #settle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
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

function hasDescriptor(device: BlockDevice): device is BlockDevice & { fd: number } {
  return device.fd !== undefined && device.fd >= 0;
}

async function checkLength(device: BlockDevice): Promise<void> {
  if (!isMeasured(device)) return;
  const now = await device.lengthNow();
  if (now < device.lengthBytes) throw shrank(device.name, now, device.lengthBytes, now);
  if (now > device.lengthBytes) throw grew(device.name, device.lengthBytes, now);
}
