// SPDX-License-Identifier: MIT
// The mirror job: copies a live device to a target, follows its changes, and switches over when it is told to.

import { UsageError } from '../base/errors.js';
import type { BlockNode } from '../block/block-node.js';
import { type Claim, claim } from '../block/claims.js';
import { DirtyBitmap } from '../block/dirty-bitmap.js';
import { type Change, DirtyTracking } from '../block/filters/dirty-tracking.js';
import { RequestList } from '../block/request-list.js';
import { type HeldDrain, holdDrained } from './held-drain.js';
import { Job } from './job.js';
import { MirrorBuffers } from './mirror-buffers.js';
import { MirrorChanges } from './mirror-changes.js';
import { type CopyFailure, type CopyRun, MirrorCopy, onTarget } from './mirror-copy.js';
import { MirrorFlight } from './mirror-flight.js';
import { checkMirror, type MirrorJobOptions, type MirrorSizes, MOST_OPERATIONS } from './mirror-options.js';
import { type MirrorStart, markNext, marksWithoutLooking } from './mirror-start.js';
import { placeOf } from './place-of.js';
import { WakeSignal } from './wake-signal.js';

export type { MirrorCopyMode, MirrorJobOptions } from './mirror-options.js';
export type { MirrorSync } from './mirror-start.js';

/** After an error that is ignored, the mirror rests before it tries again; longer each time nothing came off between. */
const FIRST_REST_MILLIS = 100;
const LONGEST_REST_MILLIS = 10_000;

/** What exists while the filter is in the graph. */
interface Work {
  readonly filter: DirtyTracking;
  readonly copy: MirrorCopy;
  readonly flight: MirrorFlight;
}

/**
 * Once the target has caught up it is flushed, and the job is `ready`. From then on
 * - `complete` holds the guest back, copies what is left, flushes, and puts the target in the source's place. What was
 *   there is `formerSource` then, the caller's to close;
 * - `cancel` ends at a moment when both sides are the same to the byte and the target is flushed; the guest stays with
 *   the source. With `force`, or before ready, it ends at once, and the target is good for nothing.
 *
 * An error takes back `isSynced` until the target has caught up again; `complete` is refused meanwhile. With `ignore`
 * the job tries again after a rest: a mirror that leaves something out would be none.
 *
 * In a transaction no mirror switches before all are done, and if one fails, none does; guests are held back meanwhile.
 */
export class MirrorJob extends Job {
  readonly #options: MirrorJobOptions;
  readonly #sizes: MirrorSizes;
  readonly #buffers: MirrorBuffers;
  readonly #bitmap: DirtyBitmap;
  readonly #copiedClusters: DirtyBitmap | undefined;
  readonly #requests = new RequestList();
  readonly #signal = new WakeSignal();
  readonly #claims: Claim[] = [];
  #work: Work | undefined;
  /** The first that failed since the last one was dealt with. */
  #copyFailure: CopyFailure | undefined;
  #restMillis = FIRST_REST_MILLIS;
  #isSynced = false;
  /** A job becomes ready once; later it may be ready and not synced. */
  #wasReady = false;
  #ending: 'switch' | 'stay' | undefined;
  /** So much more is copied before the guest is held back, if the rest does not get small by itself. */
  #patienceBytes = 0;
  #drain: HeldDrain | undefined;
  #switched: BlockNode | undefined;

  /** @throws UsageError for options that make no sense */
  constructor(options: MirrorJobOptions) {
    super('mirror', options);
    this.#options = options;
    this.#sizes = checkMirror(options);
    const { granularityBytes, clusterBytes, operationBytes, buffers } = this.#sizes;
    const { lengthBytes } = options.source;
    this.#buffers = new MirrorBuffers(operationBytes, buffers);
    this.#bitmap = new DirtyBitmap(lengthBytes, granularityBytes);
    this.#copiedClusters = clusterBytes === undefined ? undefined : new DirtyBitmap(lengthBytes, clusterBytes);
  }

  get granularityBytes(): number {
    return this.#sizes.granularityBytes;
  }

  /** What differs or may differ, without what is being copied now. */
  get dirtyBytes(): number {
    return this.#bitmap.dirtyBytes;
  }

  /** The target has caught up, and no error came since. */
  get isSynced(): boolean {
    return this.#isSynced;
  }

  /** After the switch: the device that was in the target's place. */
  get formerSource(): BlockNode | undefined {
    return this.#switched && this.#work?.filter.below;
  }

  override progress() {
    this.#fitTotal(0);
    return super.progress();
  }

  protected override async run(): Promise<void> {
    const { source, target } = this.#options;
    this.#claims.push(claim(source, this.id, ['consistent-read'], ['consistent-read', 'write', 'write-unchanged']));
    this.#claims.push(claim(target, this.id, ['write'], ['consistent-read']));
    const work = await this.#attach();
    this.#work = work;
    try {
      await this.#markStart(work);
      await this.#follow(work);
    } finally {
      await this.#quiet(work);
    }
  }

  /** Both sides are the same, and the guest is held back. */
  protected override async prepare(): Promise<void> {
    const { source, target } = this.#options;
    const work = this.#work;
    if (!work) return;
    const place = placeOf(source, work.filter);
    if (this.#ending === 'switch') {
      await place.replace(target);
      this.#switched = place;
    } else {
      await source.removeFilter(work.filter);
    }
  }

  protected override async abort(): Promise<void> {
    const work = this.#work;
    if (!work) return;
    await this.#switched?.replace(work.filter);
    this.#switched = undefined;
    await this.#options.source.removeFilter(work.filter);
  }

  protected override async clean(): Promise<void> {
    await this.#drain?.release();
    for (const held of this.#claims) held.release();
  }

  protected override async onComplete(): Promise<void> {
    if (!this.#isSynced || this.#ending === 'stay') {
      const why = this.#ending ? 'it was cancelled' : 'it has to catch up again after an error';
      throw new UsageError('job-not-ready', `job ${this.id}: ${why}`, { object: this.id });
    }
    this.#end('switch');
  }

  protected override cancelGently(): boolean {
    if (this.status !== 'ready' && this.status !== 'standby') return false;
    this.#end('stay');
    return true;
  }

  protected override wake(): void {
    this.#signal.wake();
  }

  #end(ending: 'switch' | 'stay'): void {
    this.#ending = ending;
    this.#patienceBytes = this.#bitmap.dirtyBytes + 2 * this.#bufferBytes;
  }

  get #bufferBytes(): number {
    return this.#sizes.operationBytes * this.#sizes.buffers;
  }

  async #attach(): Promise<Work> {
    const { source, target, copyMode = 'background' } = this.#options;
    let work: Work | undefined;
    await source.insertFilter((below) => {
      const copy = new MirrorCopy(below, target, this.#buffers);
      const around = copyMode === 'background' ? {} : { around: this.#around(copy) };
      const onDirty = () => this.#signal.wake();
      const filter = new DirtyTracking(below, { bitmap: this.#bitmap, onDirty, ...around });
      work = { filter, copy, flight: this.#newFlight(copy) };
      return filter;
    });
    return work as unknown as Work;
  }

  #newFlight(copy: MirrorCopy): MirrorFlight {
    return new MirrorFlight({
      ...{ copy, bitmap: this.#bitmap, requests: this.#requests, copiedClusters: this.#copiedClusters },
      operationBytes: this.#sizes.operationBytes,
      mostOperations: MOST_OPERATIONS,
      onEnded: (end) => this.#ended(end),
    });
  }

  #around(copy: MirrorCopy): (change: Change, apply: () => Promise<void>) => Promise<void> {
    const changes = new MirrorChanges({
      ...{ copy, bitmap: this.#bitmap, requests: this.#requests, copiedClusters: this.#copiedClusters },
      target: this.#options.target,
      isActive: () => !this.isPaused && this.#copyFailure === undefined && !this.aborted,
      onEnded: (failure) => {
        if (failure) this.#failed(failure);
        this.#signal.wake();
      },
    });
    return (change, apply) => changes.handle(change, apply);
  }

  /** Marks what is to be copied at the beginning; what is written meanwhile is marked by the filter. */
  async #markStart({ copy }: Work): Promise<void> {
    const { source, sync, targetIsZero = false } = this.#options;
    const start: MirrorStart = { sync, targetIsZero, bitmap: this.#bitmap, copy };
    if (marksWithoutLooking(start)) return;
    for (let at = 0; at < source.lengthBytes; ) {
      await this.pausePoint();
      const next = await markNext(source, start, at);
      if (typeof next === 'number') at = next;
      else await this.#dealWith(next);
    }
  }

  /** Until the end was asked for and both sides are the same. */
  async #follow(work: Work): Promise<void> {
    for (;;) {
      await this.pausePoint();
      if (this.#copyFailure) await this.#afterFailure(work, this.#copyFailure);
      else if (this.#ending && this.#isNearEnd(work)) {
        if (await this.#finish(work)) return;
      } else if (!this.#isSynced && this.#isCaughtUp(work)) await this.#catchUp();
      else if (!(await this.#startOne(work))) await this.#signal.wait();
    }
  }

  async #startOne({ flight }: Work): Promise<boolean> {
    if (flight.isFull || !this.#buffers.isFree) return false;
    // Before a range is taken: nobody shall wait for a range that itself waits for the speed limit.
    await this.admit(0);
    return await flight.startNext((bytes) => this.admit(bytes));
  }

  #isCaughtUp({ flight }: Work): boolean {
    return this.#bitmap.dirtyBytes === 0 && flight.operations === 0;
  }

  async #catchUp(): Promise<void> {
    const failure = await onTarget(() => this.#options.target.flush());
    if (failure) return this.#failed(failure);
    // A change of the guest's may have failed on the target meanwhile.
    if (this.#copyFailure) return;
    this.#isSynced = true;
    this.#options.onSynced?.(true);
    if (this.#wasReady) return;
    this.#wasReady = true;
    await this.becomeReady();
  }

  /** The rest fits into the buffer, or waiting longer did not make it small. */
  #isNearEnd({ flight }: Work): boolean {
    return this.#patienceBytes <= 0 || this.#bitmap.dirtyBytes + flight.bytes <= this.#bufferBytes;
  }

  /**
   * Holds the guest back: marks are set when a change ends, so only then are they all there. True if both sides are the
   * same and the target is flushed; the guest is held back on. Otherwise it goes on, and the failure is dealt with.
   */
  async #finish(work: Work): Promise<boolean> {
    const drain = await holdDrained(this.#options.source);
    await this.#copyRest(work);
    if (!this.aborted && !this.#copyFailure) {
      this.#drain = drain;
      return true;
    }
    await drain.release();
    return false;
  }

  /** As fast as it goes: the guest waits. */
  async #copyRest(work: Work): Promise<void> {
    const { flight } = work;
    while (!this.aborted && !this.#copyFailure) {
      if (this.#isCaughtUp(work)) {
        const failure = await onTarget(() => this.#options.target.flush());
        if (failure) this.#failed(failure);
        return;
      }
      const hasRoom = !flight.isFull && this.#buffers.isFree;
      if (!hasRoom || !(await flight.startNext(() => undefined))) await this.#signal.wait();
    }
    await this.#quiet(work);
  }

  async #quiet({ flight }: Work): Promise<void> {
    while (flight.operations > 0) await this.#signal.wait();
  }

  #ended(end: CopyRun | CopyFailure): void {
    if ('error' in end) {
      this.#failed(end);
    } else if (end.lengthBytes > 0) {
      this.#restMillis = FIRST_REST_MILLIS;
      this.#patienceBytes -= end.lengthBytes;
      this.#fitTotal(end.lengthBytes);
      if (end.state === 'data') this.counter.addRead(end.lengthBytes);
      else this.counter.addZero(end.lengthBytes);
    }
    this.#signal.wake();
  }

  #failed(failure: CopyFailure): void {
    this.#copyFailure ??= failure;
    if (!this.#isSynced) return;
    this.#isSynced = false;
    this.#options.onSynced?.(false);
  }

  /** What else is under way ends first, so that one failure of many at a time is told of, and stops the job once. */
  async #afterFailure(work: Work, failure: CopyFailure): Promise<void> {
    await this.#quiet(work);
    await this.#dealWith(failure);
    this.#copyFailure = undefined;
  }

  async #dealWith({ where, error }: CopyFailure): Promise<void> {
    if ((await this.onError(where, error)) === 'retry') return;
    const millis = this.#restMillis;
    this.#restMillis = Math.min(LONGEST_REST_MILLIS, 2 * millis);
    await this.clock.sleep(millis, this.signal);
  }

  private get aborted(): boolean {
    return this.signal.aborted;
  }

  /** The total is what was done, and what is to do as far as is known. */
  #fitTotal(endedBytes: number): void {
    const { totalBytes, doneBytes } = this.counter.snapshot();
    const toDo = this.#bitmap.dirtyBytes + (this.#work?.flight.bytes ?? 0);
    this.counter.addTotal(doneBytes + endedBytes + toDo - totalBytes);
  }
}
