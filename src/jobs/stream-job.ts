// SPDX-License-Identifier: MIT
// The stream job: fills a device from its backing while others use it.

import { setImmediate as turn } from 'node:timers/promises';
import { BugError, FailedError } from '../base/errors.js';
import { DirtyBitmap } from '../block/dirty-bitmap.js';
import { type ErrorAction, Job, type JobOptions } from './job.js';
import { isNoSpace } from './job-errors.js';
import {
  type FillResult,
  fillAround,
  nextPiece,
  type StreamFailure,
  type StreamPiece,
  type StreamTarget,
} from './stream-pieces.js';
import { WakeSignal } from './wake-signal.js';

export type { StreamTarget } from './stream-pieces.js';

export interface StreamJobOptions extends Omit<JobOptions, 'onSourceError' | 'onTargetError'> {
  /** Filled, not closed. Its filter stays where it is: see NodeStreamJob. */
  readonly target: StreamTarget;
  /**
   * `report` if untold. With `ignore` a range is left out for now; since the target then never becomes complete, the job
   * fails with the first such error at its end.
   */
  readonly onError?: ErrorAction;
  /** How much is copied at a time when no guest waits; 1 MiB if untold. A power of two. */
  readonly pieceBytes?: number;
  /** How many pieces are copied at once when no guest waits; 2 if untold. */
  readonly inFlight?: number;
  /** Damage is narrowed down to portions of this size; the target's granularity if untold. A multiple of that. */
  readonly narrowestBytes?: number;
  /**
   * Each range that cannot be filled since its backing is damaged. The job goes on with all others, and then stops
   * (paused, ioStatus failed), whatever `onError` says. Resumed, it tries again what is not held by then.
   */
  readonly onDamaged?: (range: { readonly offsetBytes: number; readonly lengthBytes: number }, error: unknown) => void;
  /** The backing cannot be reached: the job tries again after `waitMillis`. */
  readonly onUnreachable?: (error: unknown, waitMillis: number) => void;
  /** It can be reached again. */
  readonly onReachable?: () => void;
  /** Undefined if no request of a guest waits; otherwise resolves when none does. Asked before each piece. */
  readonly yieldTo?: () => Promise<void> | undefined;
  /** The job goes on after so long even if the guest never rests; 20 ms if untold. */
  readonly mostYieldMillis?: number;
}

const PIECE_BYTES = 2 ** 20;
/** What the pieces shrink to while a guest is at work. */
const LEAST_PIECE_BYTES = 128 * 1024;
const IN_FLIGHT = 2;
const MOST_YIELD_MILLIS = 20;
/** A guest that was not met for so long is not at work. */
const GUEST_RESTS_MILLIS = 100;

const FIRST_REST_MILLIS = 100;
const LONGEST_REST_MILLIS = 10_000;

/**
 * Goes through what the target lacks, ascending, piece by piece; what a guest writes meanwhile is skipped. When all is
 * held the target is flushed, and the job ends. Whenever it ends, what was filled stays filled: another job goes on there.
 *
 * Nothing is ever put in the place of what cannot be read.
 */
export class StreamJob extends Job {
  readonly #options: StreamJobOptions;
  readonly #target: StreamTarget;
  readonly #narrowestBytes: number;
  readonly #mostPieceBytes: number;
  readonly #leastPieceBytes: number;
  readonly #wakeSignal = new WakeSignal();
  #pieceBytes: number;
  /** A guest is, or was a moment ago, at work. */
  #isYielding = false;
  #guestSeenMillis = Number.NEGATIVE_INFINITY;
  #underWay = 0;
  /** Up to here pieces were begun. */
  #cursor = 0;
  readonly #failures: StreamFailure[] = [];
  /** Of the pass under way; the first of them. */
  #damage: StreamFailure | undefined;
  #toldDamage: DirtyBitmap;
  /** The first error that was ignored. */
  #ignored: { readonly error: unknown } | undefined;
  #restMillis = FIRST_REST_MILLIS;
  #isUnreachable = false;

  constructor(options: StreamJobOptions) {
    const { onError = 'report', target } = options;
    super('stream', { ...options, onSourceError: onError, onTargetError: onError }, target.lengthBytes);
    const { granularityBytes } = target.held;
    this.#options = options;
    this.#target = target;
    this.#narrowestBytes = options.narrowestBytes ?? granularityBytes;
    this.#mostPieceBytes = Math.max(granularityBytes, options.pieceBytes ?? PIECE_BYTES);
    this.#leastPieceBytes = Math.min(this.#mostPieceBytes, Math.max(granularityBytes, LEAST_PIECE_BYTES));
    this.#pieceBytes = this.#mostPieceBytes;
    this.#toldDamage = this.#newBitmap();
  }

  override progress() {
    this.#fitProgress(0);
    return super.progress();
  }

  protected override async run(): Promise<void> {
    this.#fitProgress(0);
    try {
      while (!this.#target.isComplete) {
        await this.#pass();
        if (this.#damage) await this.#stopForDamage(this.#damage);
        else if (this.#ignored) throw this.#ignored.error;
        else if (!this.#target.isComplete) throw new BugError(`${this.#target.name}: a fill left something out`);
      }
      await this.#flush();
      this.#fitProgress(0);
    } finally {
      await this.#quiet();
    }
  }

  protected override wake(): void {
    this.#wakeSignal.wake();
  }

  /** Once through the target. Ends when nothing is under way, and all is held or known to be damaged or ignored. */
  async #pass(): Promise<void> {
    this.#cursor = 0;
    this.#damage = undefined;
    this.#toldDamage = this.#newBitmap();
    for (;;) {
      await this.pausePoint();
      const failure = this.#failures[0];
      if (failure) await this.#afterFailure(failure);
      else if (this.#underWay >= this.#mostAtOnce) await this.#wakeSignal.wait();
      else if (!(await this.#beginNext())) {
        if (this.#underWay === 0 && this.#failures.length === 0) return;
        await this.#wakeSignal.wait();
      }
    }
  }

  #newBitmap(): DirtyBitmap {
    return new DirtyBitmap(this.#target.lengthBytes, this.#target.held.granularityBytes);
  }

  get #mostAtOnce(): number {
    return this.#isYielding ? 1 : (this.#options.inFlight ?? IN_FLIGHT);
  }

  /** False if there is nothing from the cursor on. */
  async #beginNext(): Promise<boolean> {
    await this.#yield();
    await this.admit(0);
    const piece = await nextPiece(this.#target, this.#cursor, this.#pieceBytes);
    if (!piece) return false;
    this.#cursor = piece.offsetBytes + piece.lengthBytes;
    this.#underWay++;
    void fillAround(this.#target, piece, this.#narrowestBytes, this.signal).then((result) =>
      this.#ended(piece, result),
    );
    if (piece.state === 'data') await this.admit(piece.lengthBytes);
    return true;
  }

  /**
   * Lets the guest go first, but not for ever; smaller pieces follow, so that it waits less for what is under way. They
   * stay small for a while, since a guest that sends one request at a time is seldom met in the middle of it.
   */
  async #yield(): Promise<void> {
    const { yieldTo, mostYieldMillis = MOST_YIELD_MILLIS } = this.#options;
    if (!yieldTo) return;
    // Requests that have arrived, but were not looked at yet, come in first.
    await turn();
    const guestRests = yieldTo();
    const now = this.clock.monotonicMillis();
    if (guestRests) this.#guestSeenMillis = now;
    this.#isYielding = now - this.#guestSeenMillis < GUEST_RESTS_MILLIS;
    const pieceBytes = this.#isYielding ? this.#leastPieceBytes : this.#pieceBytes * 2;
    this.#pieceBytes = Math.min(this.#mostPieceBytes, pieceBytes);
    if (!guestRests) return;
    const timer = new AbortController();
    const timeUp = this.clock.sleep(mostYieldMillis, timer.signal).catch(() => {});
    try {
      await this.interruptible(Promise.race([guestRests, timeUp]));
    } finally {
      timer.abort();
    }
  }

  #ended(piece: StreamPiece, { filledBytes, damaged, failure }: FillResult): void {
    this.#underWay--;
    if (filledBytes > 0 || !failure) this.#worked();
    this.#fitProgress(filledBytes);
    if (piece.state === 'zero') this.counter.addZero(filledBytes);
    else this.counter.addRead(filledBytes);
    for (const range of damaged) this.#meetDamage(range);
    if (failure) this.#failures.push(failure);
    this.#wakeSignal.wake();
  }

  #meetDamage({ offsetBytes, lengthBytes, error }: StreamFailure): void {
    this.#damage ??= { offsetBytes, lengthBytes, error };
    // After another failure nearby it may be met again.
    if (this.#toldDamage.nextClean(offsetBytes, offsetBytes + lengthBytes) === undefined) return;
    this.#toldDamage.set(offsetBytes, lengthBytes);
    this.#options.onDamaged?.({ offsetBytes, lengthBytes }, error);
  }

  #worked(): void {
    this.#restMillis = FIRST_REST_MILLIS;
    if (this.#isUnreachable) this.#options.onReachable?.();
    this.#isUnreachable = false;
  }

  /** What else is under way ends first; all that failed with it is tried again, or left out with it. */
  async #afterFailure(failure: StreamFailure): Promise<void> {
    await this.#quiet();
    const failures = this.#failures.splice(0);
    const first = Math.min(...failures.map(({ offsetBytes }) => offsetBytes));
    if (isUnreachable(failure.error)) await this.#waitForBacking(failure.error);
    else if ((await this.onError(sideOf(failure.error), failure.error)) === 'ignore') {
      this.#ignored ??= failure;
      return;
    }
    this.#cursor = Math.min(this.#cursor, first);
  }

  async #waitForBacking(error: unknown): Promise<void> {
    const millis = this.#restMillis;
    this.#restMillis = Math.min(LONGEST_REST_MILLIS, 2 * millis);
    this.#isUnreachable = true;
    this.#options.onUnreachable?.(error, millis);
    await this.clock.sleep(millis, this.signal);
  }

  /** All else is filled, but the job does not end. The guest may overwrite what is damaged; then it will. */
  async #stopForDamage({ error }: StreamFailure): Promise<void> {
    await this.stopFor('source', error);
  }

  async #flush(): Promise<void> {
    for (;;) {
      try {
        return await this.#target.flush();
      } catch (error) {
        // A flush cannot be left out.
        if ((await this.onError('target', error)) === 'ignore') throw error;
      }
    }
  }

  async #quiet(): Promise<void> {
    while (this.#underWay > 0) await this.#wakeSignal.wait();
  }

  /** Done is what is held, also by the guest's own writes. */
  #fitProgress(endedBytes: number): void {
    const { doneBytes } = this.counter.snapshot();
    this.counter.addUnchanged(this.#target.held.dirtyBytes - doneBytes - endedBytes);
  }
}

function isUnreachable(error: unknown): boolean {
  return error instanceof FailedError && error.code === 'store-unreachable';
}

function sideOf(error: unknown): 'source' | 'target' {
  return isNoSpace(error) ? 'target' : 'source';
}
