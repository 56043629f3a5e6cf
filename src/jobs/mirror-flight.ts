// SPDX-License-Identifier: MIT
// The operations that a mirror has in flight, and which dirty range is the next one's.

import type { DirtyBitmap } from '../block/dirty-bitmap.js';
import type { RequestList, TrackedRequest } from '../block/request-list.js';
import { type CopyFailure, type CopyRun, firstRun, type MirrorCopy } from './mirror-copy.js';

/** Zeros need no buffer; this bounds how long a guest's write may have to wait for one such operation. */
const MOST_ZERO_BYTES = 256 * 2 ** 20;

export interface MirrorFlightOptions {
  readonly copy: MirrorCopy;
  readonly bitmap: DirtyBitmap;
  /** Who works on which range: operations here, and the guest's writes where they go to the target too. */
  readonly requests: RequestList;
  readonly operationBytes: number;
  readonly mostOperations: number;
  /** A bit for each of the target's clusters: set once it was copied whole. Absent where that does not matter. */
  readonly copiedClusters: DirtyBitmap | undefined;
  /** Called when an operation has ended, after its range is free again. */
  readonly onEnded: (end: CopyRun | CopyFailure) => void;
}

interface Piece {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** What it may be cut into. */
  readonly unitBytes: number;
}

/**
 * No two operations touch one chunk. A chunk's dirty bit is cleared before its status and content are looked at, and set
 * again if the copy fails; so a clean chunk that is in no operation is the same on both sides, or was never asked for.
 */
export class MirrorFlight {
  readonly #options: MirrorFlightOptions;
  /** Where to look for the next dirty chunk. */
  #cursor = 0;
  #operations = 0;
  #bytes = 0;

  constructor(options: MirrorFlightOptions) {
    this.#options = options;
  }

  get operations(): number {
    return this.#operations;
  }

  /** The length of the ranges under way, zeros included. */
  get bytes(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return this.#operations >= this.#options.mostOperations;
  }

  /**
   * Starts an operation on the next dirty range that nobody works on; false if there is none. Resolves when it is known
   * how much that is, with `admit` told of what is to be read.
   */
  async startNext(admit: (dataBytes: number) => Promise<void> | undefined): Promise<boolean> {
    const claim = this.#claimNext();
    if (!claim) return false;
    const { request, piece } = claim;
    this.#begin(piece.lengthBytes);
    const plan = await this.#plan(piece);
    if ('error' in plan) {
      this.#end(request, piece, plan);
      return true;
    }
    const lengthBytes = plan.lengthBytes;
    if (lengthBytes === piece.lengthBytes) this.#start(request, piece, plan);
    else this.#startPart(request, piece, { ...piece, lengthBytes }, plan);
    if (plan.state === 'data') await admit(lengthBytes);
    return true;
  }

  /** Gives back what the operation does not take. Whoever waits for the range goes first; then its turn comes again. */
  #startPart(request: TrackedRequest, piece: Piece, part: Piece, run: CopyRun): void {
    const { bitmap, requests } = this.#options;
    const partEnd = part.offsetBytes + part.lengthBytes;
    bitmap.set(partEnd, piece.lengthBytes - part.lengthBytes);
    this.#cursor = partEnd;
    this.#bytes -= piece.lengthBytes - part.lengthBytes;
    request.end();
    const smaller = requests.tryBegin(part.offsetBytes, part.lengthBytes);
    if (smaller) {
      this.#start(smaller, part, run);
      return;
    }
    bitmap.set(part.offsetBytes, part.lengthBytes);
    this.#forget(part.lengthBytes);
    this.#options.onEnded({ state: 'zero', lengthBytes: 0 });
  }

  #start(request: TrackedRequest, piece: Piece, run: CopyRun): void {
    // It never rejects: `run` gives its failures.
    void this.#options.copy
      .run(run.state, piece.offsetBytes, piece.lengthBytes)
      .then((failure) => this.#end(request, piece, failure ?? { state: run.state, lengthBytes: piece.lengthBytes }));
  }

  #begin(lengthBytes: number): void {
    this.#operations++;
    this.#bytes += lengthBytes;
  }

  #forget(lengthBytes: number): void {
    this.#operations--;
    this.#bytes -= lengthBytes;
  }

  #end(request: TrackedRequest, { offsetBytes, lengthBytes, unitBytes }: Piece, end: CopyRun | CopyFailure): void {
    const { bitmap, copiedClusters, onEnded } = this.#options;
    if ('error' in end) bitmap.set(offsetBytes, lengthBytes);
    else if (unitBytes === copiedClusters?.granularityBytes) copiedClusters.set(offsetBytes, lengthBytes);
    this.#forget(lengthBytes);
    request.end();
    onEnded(end);
  }

  async #plan(piece: Piece): Promise<CopyRun | CopyFailure> {
    const { copy, operationBytes } = this.#options;
    const most = Math.max(operationBytes, piece.unitBytes);
    const near = await copy.status(piece.offsetBytes, Math.min(piece.lengthBytes, most));
    if ('error' in near) return near;
    const isZero = near.extents.every(({ state }) => state === 'zero');
    if (!isZero || piece.lengthBytes <= most) return firstRun(piece, near.extents, piece.unitBytes, operationBytes);
    const far = await copy.status(piece.offsetBytes, piece.lengthBytes);
    return 'error' in far ? far : firstRun(piece, far.extents, piece.unitBytes, operationBytes);
  }

  #claimNext(): { request: TrackedRequest; piece: Piece } | undefined {
    const { bitmap } = this.#options;
    const cursor = this.#cursor < bitmap.lengthBytes ? this.#cursor : 0;
    for (const [from, to] of [
      [cursor, bitmap.lengthBytes],
      [0, cursor],
    ] as const) {
      for (let at = from; at < to; ) {
        const dirty = bitmap.nextDirtyRange(at, to, MOST_ZERO_BYTES);
        if (!dirty) break;
        const piece = this.#widen(dirty.offsetBytes, dirty.lengthBytes);
        const claim = this.#claim(piece);
        if (claim) return claim;
        at = piece.offsetBytes + piece.unitBytes;
      }
    }
    return undefined;
  }

  /** As much of the piece as nobody works on, if that is its first unit at least. */
  #claim(piece: Piece): { request: TrackedRequest; piece: Piece } | undefined {
    const { bitmap, requests } = this.#options;
    for (let lengthBytes = piece.lengthBytes; ; lengthBytes = half(lengthBytes, piece.unitBytes)) {
      const request = requests.tryBegin(piece.offsetBytes, lengthBytes);
      if (request) {
        bitmap.clear(piece.offsetBytes, lengthBytes);
        this.#cursor = piece.offsetBytes + lengthBytes;
        return { request, piece: { ...piece, lengthBytes } };
      }
      if (lengthBytes <= piece.unitBytes) return undefined;
    }
  }

  /** Clusters of the target that were never copied are taken whole; the piece is of such clusters, or has none of them. */
  #widen(offsetBytes: number, lengthBytes: number): Piece {
    const { bitmap, copiedClusters } = this.#options;
    const end = offsetBytes + lengthBytes;
    if (!copiedClusters) return { offsetBytes, lengthBytes, unitBytes: bitmap.granularityBytes };
    const unitBytes = copiedClusters.granularityBytes;
    if (copiedClusters.get(offsetBytes)) {
      const upTo = copiedClusters.nextClean(offsetBytes, end) ?? end;
      return { offsetBytes, lengthBytes: upTo - offsetBytes, unitBytes: bitmap.granularityBytes };
    }
    const start = offsetBytes - (offsetBytes % unitBytes);
    const wholeEnd = Math.min(bitmap.lengthBytes, Math.ceil(end / unitBytes) * unitBytes);
    const upTo = copiedClusters.nextDirty(offsetBytes, wholeEnd) ?? wholeEnd;
    return { offsetBytes: start, lengthBytes: upTo - start, unitBytes };
  }
}

/** Half of it in whole units, at least one. */
function half(lengthBytes: number, unitBytes: number): number {
  return Math.max(1, Math.floor(lengthBytes / unitBytes / 2)) * unitBytes;
}
