// SPDX-License-Identifier: MIT
// Makes a frame of pieces of slots.

import type { HashName } from '../../formats/vmar/hash.js';
import { sealer } from '../../formats/vmar/hash.js';
import { copyBytes } from '../base/syscalls.js';
import type { SlotMemory } from './slot-memory.js';
import type { Slot } from './slots.js';
import { compressionContext, type Implementation, Scratch } from './thread-tools.js';

/** Bytes of a slot. */
export interface Piece {
  readonly slot: Slot;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface CompressedFrame {
  /** 0 as it is, 1 zstd. */
  readonly codec: 0 | 1;
  readonly storedBytes: number;
  readonly rawBytes: number;
  /** 16 bytes, of the stored bytes. */
  readonly seal: Uint8Array;
}

/** A stretch of one slot, as tasks see it. */
export interface Run {
  readonly slot: SlotMemory;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** A frame is stored as it is unless compression saves this share of it. */
const LEAST_SAVING = 32;
const gathered = new Scratch();

/** See Executor.compress. The result goes to the result area of `into`. */
export function compress(
  runs: readonly Run[],
  into: SlotMemory,
  level: number,
  hash: HashName,
  implementation: Implementation,
): void {
  const raw = rawBytesOf(runs);
  const most = raw.byteLength - Math.ceil(raw.byteLength / LEAST_SAVING);
  const compressedBytes = compressInto(raw, into.bytes.subarray(0, most), level);
  if (compressedBytes === undefined) copyBytes(into.bytes, raw);
  const storedBytes = compressedBytes ?? raw.byteLength;
  into.frame[0] = compressedBytes === undefined ? 0 : 1;
  into.frame[1] = storedBytes;
  into.frame[2] = raw.byteLength;
  into.seal.set(sealer(hash, implementation)(into.bytes.subarray(0, storedBytes)));
}

function rawBytesOf(runs: readonly Run[]): Buffer {
  const [first, ...others] = runs as readonly [Run, ...Run[]];
  if (others.length === 0) {
    return first.slot.bytes.subarray(first.offsetBytes, first.offsetBytes + first.lengthBytes);
  }
  const total = runs.reduce((sum, run) => sum + run.lengthBytes, 0);
  const raw = gathered.take(total);
  let at = 0;
  for (const { slot, offsetBytes, lengthBytes } of runs) {
    copyBytes(raw.subarray(at), slot.bytes.subarray(offsetBytes, offsetBytes + lengthBytes));
    at += lengthBytes;
  }
  return raw;
}

/** The compressed length, or undefined if it does not fit: then, or if zstd fails in any way, raw bytes are right. */
function compressInto(raw: Buffer, room: Buffer, level: number): number | undefined {
  try {
    return compressionContext(level).compress2(room, raw);
  } catch {
    return undefined;
  }
}
