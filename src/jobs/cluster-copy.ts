// SPDX-License-Identifier: MIT
// The copying of clusters that two sides ask for: a loop in the background, and guests that are about to write.

import type { BlockDevice } from '../block/device.js';
import type { DirtyBitmap, DirtyRange } from '../block/dirty-bitmap.js';
import { RequestList } from '../block/request-list.js';
import type { ClusterTarget, DeviceWithDescriptor } from './backup-target.js';
import type { ErrorSide } from './job-errors.js';

export interface CopyFailure {
  readonly where: ErrorSide;
  readonly error: unknown;
}

export interface ClusterCopyOptions {
  /** What is below the filter that holds guests back, or a device that nobody writes to. */
  readonly source: BlockDevice;
  readonly target: ClusterTarget;
  /** What is to be copied, in clusters; becomes the copy's own. */
  readonly remaining: DirtyBitmap;
  /** A slot of the target's, for those who cannot wait themselves. */
  readonly lease: () => Promise<Uint8Array>;
  /** What was handed over, by how it came. */
  readonly onCopied: (how: 'read' | 'zero' | 'kept', bytes: number) => void;
}

/**
 * Every cluster that remains is copied exactly once, whoever comes first.
 *
 * - A cluster's bit is cleared before it is read, under a claim in `requests`, and set again under that claim if the copy
 *   fails. So a cluster is being copied (claimed), remains (bit set), or was copied (neither).
 * - A guest's write waits until its clusters are neither: only then may it change them. So whatever was learnt of a
 *   cluster while the guest was held back (its content, or that it is a hole) holds for as long as its bit is set.
 * - Who holds a claim may wait for a slot; who holds a slot never waits for a claim.
 */
export class ClusterCopy {
  /** Others that read the source take part in it: see the job's `beginRequest`. */
  readonly requests = new RequestList();
  readonly remaining: DirtyBitmap;
  readonly #options: ClusterCopyOptions;
  /** Copies under way; they never reject. */
  readonly #underWay = new Set<Promise<CopyFailure | undefined>>();

  constructor(options: ClusterCopyOptions) {
    this.#options = options;
    this.remaining = options.remaining;
  }

  /**
   * Copies what remains of the clusters that the range touches, and waits for those that others copy. Undefined, at once,
   * if there is neither. Gives the first failure; then something remains.
   */
  copyBefore(offsetBytes: number, lengthBytes: number): Promise<CopyFailure | undefined> | undefined {
    const { from, to } = this.#wholeClusters(offsetBytes, lengthBytes);
    if (this.remaining.nextDirty(from, to) === undefined && !this.requests.overlaps(from, to - from)) return undefined;
    return this.#copyBefore(from, to);
  }

  async #copyBefore(from: number, to: number): Promise<CopyFailure | undefined> {
    for (;;) {
      const range = this.remaining.nextDirtyRange(from, to);
      if (range) {
        const failure = await this.#track(this.#copyStart(range));
        if (failure) return failure;
        continue;
      }
      const others = this.requests.waitForOverlapping(from, to - from);
      if (!others) return undefined;
      await others;
    }
  }

  /** Copies the first part of a range: a hole of many clusters at a stroke, else one piece. */
  async #copyStart(range: DirtyRange): Promise<CopyFailure | undefined> {
    const { target } = this.#options;
    const piece = this.#firstPiece(range);
    if (range.lengthBytes > target.pieceBytes) {
      try {
        const holeBytes = await this.#holeBytes(range);
        const most = Math.min(holeBytes, target.zeroPieceBytes);
        if (most >= piece.lengthBytes) return await this.#zero(range.offsetBytes, most);
      } catch (error) {
        return { where: 'source', error };
      }
    }
    return await this.#copyClaimed(piece);
  }

  /** How many bytes from the range's start are a hole, in whole clusters. */
  async #holeBytes(range: DirtyRange): Promise<number> {
    const end = range.offsetBytes + range.lengthBytes;
    let at = range.offsetBytes;
    for (const extent of await this.#options.source.blockStatus(at, range.lengthBytes)) {
      if (extent.state !== 'zero') break;
      at = extent.offsetBytes + extent.lengthBytes;
    }
    if (at !== end) at -= at % this.#options.target.clusterSizeBytes;
    return Math.max(0, at - range.offsetBytes);
  }

  #firstPiece(range: DirtyRange): DirtyRange {
    const { pieceBytes } = this.#options.target;
    const lengthBytes = Math.min(range.lengthBytes, pieceBytes - (range.offsetBytes % pieceBytes));
    return { offsetBytes: range.offsetBytes, lengthBytes };
  }

  /** Claims first, then waits for a slot. */
  async #copyClaimed(piece: DirtyRange): Promise<CopyFailure | undefined> {
    const request = await this.requests.begin(piece.offsetBytes, piece.lengthBytes);
    try {
      const run = this.remaining.nextDirtyRange(piece.offsetBytes, piece.offsetBytes + piece.lengthBytes);
      if (!run) return undefined;
      let slot: Uint8Array;
      try {
        slot = await this.#options.lease();
      } catch (error) {
        return { where: 'target', error };
      }
      return await this.#copyRun(run, slot);
    } finally {
      request.end();
    }
  }

  /**
   * Copies a range of at most a piece, all of which remains, with a slot that the caller leased. Undefined, and the slot
   * stays the caller's, if somebody claims part of the range. `onRead` is called when the read has ended.
   */
  tryCopy(run: DirtyRange, slot: Uint8Array, onRead: () => void): Promise<CopyFailure | undefined> | undefined {
    const request = this.requests.tryBegin(run.offsetBytes, run.lengthBytes);
    if (!request) return undefined;
    return this.#track(this.#copyRun(run, slot, onRead).finally(() => request.end()));
  }

  /** Under a claim. Takes the slot. */
  async #copyRun(run: DirtyRange, slot: Uint8Array, onRead?: () => void): Promise<CopyFailure | undefined> {
    const { source, target, onCopied } = this.#options;
    const bytes = run.lengthBytes === slot.byteLength ? slot : slot.subarray(0, run.lengthBytes);
    this.remaining.clear(run.offsetBytes, run.lengthBytes);
    try {
      await source.read(run.offsetBytes, bytes);
    } catch (error) {
      target.release(slot);
      return this.#failed(run, 'source', error);
    } finally {
      onRead?.();
    }
    try {
      await target.write(run.offsetBytes, slot, run.lengthBytes);
    } catch (error) {
      return this.#failed(run, 'target', error);
    }
    onCopied('read', run.lengthBytes);
    return undefined;
  }

  /** Hands over what remains of a range that is a hole. */
  copyHole(offsetBytes: number, lengthBytes: number): Promise<CopyFailure | undefined> {
    return this.#track(this.#zero(offsetBytes, lengthBytes));
  }

  #zero(offsetBytes: number, lengthBytes: number): Promise<CopyFailure | undefined> {
    const { target } = this.#options;
    return this.#eachRun(offsetBytes, lengthBytes, 'zero', (run) =>
      target.writeZeroes(run.offsetBytes, run.lengthBytes),
    );
  }

  /** Leaves what remains of the range as the target has it. */
  keep(offsetBytes: number, lengthBytes: number): Promise<CopyFailure | undefined> {
    const { target } = this.#options;
    return this.#track(
      this.#eachRun(offsetBytes, lengthBytes, 'kept', (run) => target.keep(run.offsetBytes, run.lengthBytes)),
    );
  }

  /** Has the target read a range that remains by itself; only where nobody else copies. */
  letTargetRead(run: DirtyRange, source: DeviceWithDescriptor): Promise<CopyFailure | undefined> {
    const { target } = this.#options;
    return this.#track(
      this.#eachRun(run.offsetBytes, run.lengthBytes, 'read', (part) =>
        target.writeFrom!(part.offsetBytes, part.lengthBytes, source),
      ),
    );
  }

  async #eachRun(
    offsetBytes: number,
    lengthBytes: number,
    how: 'read' | 'zero' | 'kept',
    hand: (run: DirtyRange) => Promise<void>,
  ): Promise<CopyFailure | undefined> {
    const request = await this.requests.begin(offsetBytes, lengthBytes);
    const end = offsetBytes + lengthBytes;
    try {
      for (let run = this.remaining.nextDirtyRange(offsetBytes, end); run; ) {
        this.remaining.clear(run.offsetBytes, run.lengthBytes);
        try {
          await hand(run);
        } catch (error) {
          return this.#failed(run, 'target', error);
        }
        this.#options.onCopied(how, run.lengthBytes);
        run = this.remaining.nextDirtyRange(run.offsetBytes + run.lengthBytes, end);
      }
      return undefined;
    } finally {
      request.end();
    }
  }

  /** Everything is to be copied anew. No guest's request and no copy may be under way. */
  startOver(): void {
    this.remaining.set(0, this.remaining.lengthBytes);
    this.#options.target.forgetZeros?.();
  }

  /** Resolves when no copy is under way; what others hold in `requests` does not count. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  #failed(run: DirtyRange, where: ErrorSide, error: unknown): CopyFailure {
    this.remaining.set(run.offsetBytes, run.lengthBytes);
    return { where, error };
  }

  #wholeClusters(offsetBytes: number, lengthBytes: number): { from: number; to: number } {
    const { clusterSizeBytes } = this.#options.target;
    const end = offsetBytes + lengthBytes;
    const past = end % clusterSizeBytes;
    const to = past === 0 ? end : Math.min(end - past + clusterSizeBytes, this.remaining.lengthBytes);
    return { from: offsetBytes - (offsetBytes % clusterSizeBytes), to };
  }

  #track(copy: Promise<CopyFailure | undefined>): Promise<CopyFailure | undefined> {
    const tracked = copy.finally(() => this.#underWay.delete(tracked));
    this.#underWay.add(tracked);
    return tracked;
  }
}
