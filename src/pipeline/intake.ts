// SPDX-License-Identifier: MIT
// The whole way of a slot in one task: read it from a file, hash it, compress it. What was read is still in the core's
// cache when it is hashed and compressed, and the main thread hears of it once.

import { readSync } from 'node:fs';
import type { HashName } from '../../formats/vmar/hash.js';
import { compress, type Run } from './compress.js';
import { hashSlot } from './hash-slot.js';
import type { SlotMemory } from './slot-memory.js';
import type { Implementation } from './thread-tools.js';

/** Where a slot's bytes are read from. */
export interface FileRange {
  readonly fd: number;
  readonly offsetBytes: number;
}

export interface IntakeOptions {
  /** Read the slot first; otherwise its bytes are there already. */
  readonly from: FileRange | undefined;
  /** Compress all clusters that are not zero into this slot, as one frame. */
  readonly into: SlotMemory | undefined;
  readonly hash: HashName;
  readonly level: number;
  readonly implementation: Implementation;
}

/** The bytes that were there to read: fewer than asked for only at the end of the file. Throws the system's error. */
export function intake(slot: SlotMemory, lengthBytes: number, options: IntakeOptions): number {
  const { from, into, hash, level, implementation } = options;
  const read = from === undefined ? lengthBytes : readAll(slot, lengthBytes, from);
  if (read < lengthBytes) return read;
  hashSlot(slot, lengthBytes, hash, implementation);
  if (into === undefined) return read;
  const runs = runsOfData(slot, lengthBytes);
  if (runs.length > 0) compress(runs, into, level, hash, implementation);
  else into.frame[2] = 0;
  return read;
}

function readAll(slot: SlotMemory, lengthBytes: number, from: FileRange): number {
  let got = 0;
  while (got < lengthBytes) {
    const count = readSync(from.fd, slot.bytes, got, lengthBytes - got, from.offsetBytes + got);
    if (count === 0) return got;
    got += count;
  }
  return got;
}

/** The stretches between zero clusters. */
function runsOfData(slot: SlotMemory, lengthBytes: number): Run[] {
  const size = slot.clusterSizeBytes;
  const runs: { slot: SlotMemory; offsetBytes: number; lengthBytes: number }[] = [];
  for (let index = 0, at = 0; at < lengthBytes; index++, at += size) {
    if (slot.flags[index] === 1) continue;
    const bytes = Math.min(size, lengthBytes - at);
    const last = runs.at(-1);
    if (last !== undefined && last.offsetBytes + last.lengthBytes === at) last.lengthBytes += bytes;
    else runs.push({ slot, offsetBytes: at, lengthBytes: bytes });
  }
  return runs;
}
