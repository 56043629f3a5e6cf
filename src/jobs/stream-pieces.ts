// SPDX-License-Identifier: MIT
// What a stream job fills next, and in which portions.

import { DamageError } from '../base/errors.js';
import type { BlockExtent } from '../block/device.js';
import type { DirtyBitmap } from '../block/dirty-bitmap.js';

/** What a stream job fills: an AllocTrack, or what acts like one. */
export interface StreamTarget {
  readonly name: string;
  readonly lengthBytes: number;
  /** Set where the target holds the content; never cleared. */
  readonly held: DirtyBitmap;
  readonly isComplete: boolean;
  /** Copies what the range lacks from the backing; what others wrote meanwhile stays. */
  fill(offsetBytes: number, lengthBytes: number): Promise<{ filledBytes: number }>;
  blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]>;
  flush(): Promise<void>;
}

export interface StreamRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface StreamPiece extends StreamRange {
  /** `zero`: nothing has to be read for it. */
  readonly state: 'data' | 'zero';
}

/** A range that could not be filled, and why. */
export interface StreamFailure extends StreamRange {
  readonly error: unknown;
}

/** Zeros are found at once, but may have to be written: between two portions the job can be paused. */
const MOST_ZERO_BYTES = 256 * 2 ** 20;

/** The first piece from `fromBytes` on that the target lacks; undefined if there is none. Data ends at multiples of `pieceBytes`. */
export async function nextPiece(
  target: StreamTarget,
  fromBytes: number,
  pieceBytes: number,
): Promise<StreamPiece | undefined> {
  const at = target.held.nextClean(fromBytes);
  if (at === undefined) return undefined;
  const dataEnd = Math.min(target.lengthBytes, at - (at % pieceBytes) + pieceBytes);
  let zeroEnd = await endOfZeros(target, at, dataEnd);
  // Far looks cost a map of the backing much reading: only where they save as much.
  if (zeroEnd === dataEnd) zeroEnd = await endOfZeros(target, at, Math.min(target.lengthBytes, at + MOST_ZERO_BYTES));
  if (zeroEnd >= dataEnd) return { offsetBytes: at, lengthBytes: zeroEnd - at, state: 'zero' };
  return { offsetBytes: at, lengthBytes: dataEnd - at, state: 'data' };
}

/** Up to where all is zero, in whole granules. */
async function endOfZeros(target: StreamTarget, from: number, to: number): Promise<number> {
  let end = from;
  try {
    for (const { offsetBytes, lengthBytes, state } of await target.blockStatus(from, to - from)) {
      if (state !== 'zero') break;
      end = offsetBytes + lengthBytes;
    }
  } catch {
    // The fill of the piece meets the same error, and tells it.
    return from;
  }
  return end === target.lengthBytes ? end : end - (end % target.held.granularityBytes);
}

/** How a portion of a piece came off. */
export interface FillResult {
  readonly filledBytes: number;
  /** What lies in damage; not held. Ascending, joined. */
  readonly damaged: readonly StreamFailure[];
  /** Any other error; the rest of the piece was left alone. */
  readonly failure: StreamFailure | undefined;
}

/**
 * Fills a piece. Where the backing is damaged, it is narrowed down by halves to portions of `narrowestBytes`, so that all
 * that can be read is filled. Never rejects.
 */
export async function fillAround(
  target: StreamTarget,
  piece: StreamRange,
  narrowestBytes: number,
  signal: AbortSignal,
): Promise<FillResult> {
  const { offsetBytes, lengthBytes } = piece;
  try {
    const { filledBytes } = await target.fill(offsetBytes, lengthBytes);
    return { filledBytes, damaged: [], failure: undefined };
  } catch (error) {
    const failure = { offsetBytes, lengthBytes, error };
    if (!(error instanceof DamageError) || signal.aborted) return { filledBytes: 0, damaged: [], failure };
    const middle = middleOf(piece, narrowestBytes);
    if (middle === undefined) return { filledBytes: 0, damaged: [failure], failure: undefined };
    const firstBytes = middle - offsetBytes;
    const first = await fillAround(target, { offsetBytes, lengthBytes: firstBytes }, narrowestBytes, signal);
    if (first.failure) return first;
    const rest = { offsetBytes: middle, lengthBytes: lengthBytes - firstBytes };
    return joined(first, await fillAround(target, rest, narrowestBytes, signal));
  }
}

/** The multiple of `unitBytes` inside the range that is nearest to its middle; undefined if there is none. */
function middleOf({ offsetBytes, lengthBytes }: StreamRange, unitBytes: number): number | undefined {
  const end = offsetBytes + lengthBytes;
  const middle = Math.round((offsetBytes + lengthBytes / 2) / unitBytes) * unitBytes;
  for (const at of [middle, middle - unitBytes, middle + unitBytes]) if (at > offsetBytes && at < end) return at;
  return undefined;
}

function joined(first: FillResult, second: FillResult): FillResult {
  const damaged = [...first.damaged];
  for (const range of second.damaged) {
    const last = damaged.at(-1);
    if (last && last.offsetBytes + last.lengthBytes === range.offsetBytes) {
      damaged[damaged.length - 1] = { ...last, lengthBytes: last.lengthBytes + range.lengthBytes };
    } else {
      damaged.push(range);
    }
  }
  return { filledBytes: first.filledBytes + second.filledBytes, damaged, failure: second.failure };
}
