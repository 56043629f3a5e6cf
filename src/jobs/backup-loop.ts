// SPDX-License-Identifier: MIT
// The background loop of a backup: walks what remains of a disk, some reads ahead of the target.

import { Limiter } from '../base/bounded-queue.js';
import type { Clock } from '../base/clock.js';
import type { BlockDevice } from '../block/device.js';
import type { DirtyRange } from '../block/dirty-bitmap.js';
import { backedRanges } from './backup-sync.js';
import { type ClusterTarget, type DeviceWithDescriptor, hasDescriptor } from './backup-target.js';
import type { ClusterCopy, CopyFailure } from './cluster-copy.js';
import { type Segment, segments } from './segments.js';

/** Enough that the disk always has a next request. */
const READS_IN_FLIGHT = 4;
/** After a pass over the disk that got nothing done, because errors are ignored. */
const RETRY_MILLIS = 500;

/** What the loop is told and asks of its job; all that waits rejects once the job has failed. */
export interface BackupLoopOptions {
  readonly copy: ClusterCopy;
  readonly source: BlockDevice;
  readonly target: ClusterTarget;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Nobody else writes to the source or copies. */
  readonly isAlone: boolean;
  readonly lease: () => Promise<Uint8Array>;
  readonly pausePoint: () => Promise<void> | undefined;
  readonly isPaused: () => boolean;
  readonly admit: (bytes: number) => Promise<void> | undefined;
  readonly interruptible: <T>(promise: Promise<T>) => Promise<T>;
  /** What to do about it; `ignore` leaves it for a later pass. */
  readonly decide: (failure: CopyFailure) => Promise<'retry' | 'ignore'>;
  readonly fail: (error: unknown) => void;
}

export class BackupLoop {
  readonly #options: BackupLoopOptions;
  readonly #reads = new Limiter(READS_IN_FLIGHT);
  /** Copies that were started and have not ended; they never reject. */
  readonly #underWay = new Set<Promise<void>>();

  constructor(options: BackupLoopOptions) {
    this.#options = options;
  }

  /** Resolves when nothing remains, and nothing is under way. */
  async run(): Promise<void> {
    const { copy, clock, signal, pausePoint } = this.#options;
    while (!copy.remaining.isClean) {
      const before = copy.remaining.dirtyBytes;
      await this.#pass();
      await this.settled();
      await copy.settled();
      await pausePoint();
      if (copy.remaining.dirtyBytes >= before) await clock.sleep(RETRY_MILLIS, signal);
    }
  }

  /** Leaves what shows through from the source's backing as the target has it. */
  async keepBacked(): Promise<void> {
    const { copy, source, target, pausePoint } = this.#options;
    for await (const range of backedRanges(source, target.clusterSizeBytes)) {
      await pausePoint();
      await this.#untilDone(() => copy.keep(range.offsetBytes, range.lengthBytes));
    }
  }

  /** Resolves when nothing that the loop started is under way. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  /** One walk over what remains. */
  async #pass(): Promise<void> {
    const { copy, source, target, pausePoint } = this.#options;
    const { clusterSizeBytes, pieceBytes } = target;
    for (let range = copy.remaining.nextDirtyRange(0); range; ) {
      const toBytes = range.offsetBytes + range.lengthBytes;
      const within = { fromBytes: range.offsetBytes, toBytes };
      for await (const segment of segments(source, clusterSizeBytes, pieceBytes, undefined, within)) {
        await pausePoint();
        await this.#takeSegment(segment);
      }
      range = copy.remaining.nextDirtyRange(toBytes);
    }
  }

  /** A guest may have caused parts of it to be copied. */
  async #takeSegment({ kind, offsetBytes, lengthBytes }: Segment): Promise<void> {
    const { copy, source, target, isAlone } = this.#options;
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end; ) {
      const run = copy.remaining.nextDirtyRange(at, end);
      if (!run) return;
      if (kind === 'zero') await this.#takeHole(run);
      else if (isAlone && target.writeFrom && hasDescriptor(source)) await this.#letTargetRead(run, source);
      else await this.#startCopy(run);
      at = run.offsetBytes + run.lengthBytes;
    }
  }

  async #takeHole(run: DirtyRange): Promise<void> {
    const { copy, target, pausePoint } = this.#options;
    const end = run.offsetBytes + run.lengthBytes;
    for (let at = run.offsetBytes; at < end; ) {
      const bytes = Math.min(end - at, target.zeroPieceBytes);
      const from = at;
      await pausePoint();
      await this.#untilDone(() => copy.copyHole(from, bytes));
      at += bytes;
    }
  }

  /** The target's threads read: the data never passes through this one. */
  async #letTargetRead(run: DirtyRange, source: DeviceWithDescriptor): Promise<void> {
    await this.#options.admit(run.lengthBytes);
    await this.#untilDone(() => this.#options.copy.letTargetRead(run, source));
  }

  async #untilDone(step: () => Promise<CopyFailure | undefined>): Promise<void> {
    const { interruptible, decide } = this.#options;
    for (;;) {
      const failure = await interruptible(step());
      if (!failure || (await decide(failure)) === 'ignore') return;
    }
  }

  /** Resolves when the copy is under way, not when it is done. */
  async #startCopy(run: DirtyRange): Promise<void> {
    const { interruptible, admit, fail } = this.#options;
    const place = this.#reads.enter();
    if (place) await interruptible(place);
    await admit(run.lengthBytes);
    const tracked = this.#copyRange(run)
      .catch(fail)
      .then(() => {
        this.#underWay.delete(tracked);
      });
    this.#underWay.add(tracked);
  }

  /** Copies what remains of the range; leaves `#reads` when the first read is done. */
  async #copyRange({ offsetBytes, lengthBytes }: DirtyRange): Promise<void> {
    const { copy, decide } = this.#options;
    let isReading = true;
    const leave = () => {
      if (isReading) this.#reads.leave();
      isReading = false;
    };
    try {
      for (;;) {
        const copying = await this.#begin(offsetBytes, offsetBytes + lengthBytes, leave);
        if (!copying) return;
        const failure = await copying.result;
        if (failure && (await decide(failure)) === 'ignore') return;
        if (copy.remaining.nextDirty(offsetBytes, offsetBytes + lengthBytes) === undefined) return;
      }
    } finally {
      leave();
    }
  }

  /**
   * Begins to copy the first run of the range that remains; undefined if none does. Takes a slot first, and gives it back
   * where it would have to wait: somebody who holds guests back may need it.
   */
  async #begin(
    from: number,
    to: number,
    onRead: () => void,
  ): Promise<{ result: Promise<CopyFailure | undefined> } | undefined> {
    const { copy, target, lease, isPaused, pausePoint, interruptible } = this.#options;
    for (;;) {
      await pausePoint();
      if (copy.remaining.nextDirty(from, to) === undefined) return undefined;
      const slot = await lease();
      const run = copy.remaining.nextDirtyRange(from, to);
      const result = run && !isPaused() ? copy.tryCopy(run, slot, onRead) : undefined;
      if (result) return { result };
      target.release(slot);
      if (run && !isPaused()) {
        const others = copy.requests.waitForOverlapping(run.offsetBytes, run.lengthBytes);
        if (others) await interruptible(others);
      }
    }
  }
}
