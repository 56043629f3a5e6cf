// SPDX-License-Identifier: MIT
// What every executor does around the tasks on slots: checks before they touch memory, and reads their result.

import { BugError } from '../base/errors.js';
import type { CompressedFrame, Piece } from './compress.js';
import type { IntakeResult } from './executor.js';
import type { Slot } from './slots.js';

export function checkLength(slot: Slot, lengthBytes: number): void {
  if (lengthBytes > 0 && lengthBytes <= slot.bytes.byteLength) return;
  throw new BugError(`a slot of ${slot.bytes.byteLength} bytes was said to hold ${lengthBytes}`);
}

/** Joins pieces that are neighbours in one slot: a single run is compressed where it lies, without a copy. */
export function joinPieces(pieces: readonly Piece[], into: Slot): Piece[] {
  const runs: { slot: Slot; offsetBytes: number; lengthBytes: number }[] = [];
  let total = 0;
  for (const { slot, offsetBytes, lengthBytes } of pieces) {
    const last = runs.at(-1);
    if (last !== undefined && last.slot === slot && last.offsetBytes + last.lengthBytes === offsetBytes) {
      last.lengthBytes += lengthBytes;
    } else {
      runs.push({ slot, offsetBytes, lengthBytes });
    }
    const isWithin = offsetBytes >= 0 && lengthBytes > 0 && offsetBytes + lengthBytes <= slot.bytes.byteLength;
    if (slot === into || !isWithin) throw new BugError('a piece is out of place');
    total += lengthBytes;
  }
  if (total === 0 || total > into.bytes.byteLength) throw new BugError(`a frame cannot hold ${total} bytes`);
  return runs;
}

/** A frame of all the slot's bytes must fit, even if none of them can be saved. */
export function checkIntake(slot: Slot, lengthBytes: number, into: Slot | undefined): void {
  checkLength(slot, lengthBytes);
  if (into === undefined || (into !== slot && lengthBytes <= into.bytes.byteLength)) return;
  throw new BugError(`${lengthBytes} bytes cannot be compressed into a slot of ${into.bytes.byteLength}`);
}

/** What an intake that could read `readBytes` left. */
export function intakeResult(readBytes: number, lengthBytes: number, into: Slot | undefined): IntakeResult {
  const compressed = into !== undefined && readBytes === lengthBytes && into.memory.frame[2] !== 0;
  return { readBytes, frame: compressed ? compressedFrame(into) : undefined };
}

/** The result that `compress` left in the slot's result area. */
export function compressedFrame(into: Slot): CompressedFrame {
  const { frame, seal } = into.memory;
  return { codec: frame[0] === 1 ? 1 : 0, storedBytes: frame[1]!, rawBytes: frame[2]!, seal: Uint8Array.from(seal) };
}
