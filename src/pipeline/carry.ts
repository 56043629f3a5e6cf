// SPDX-License-Identifier: MIT
// Reads one frame as it is stored, to be written elsewhere as it is, and checks it whole: its seal, that it opens, and
// chunks in it. What lies in the slot afterwards is what was checked.

import type { HashName } from '../../formats/vmar/hash.js';
import { MAX_FRAME_BYTES } from '../../formats/vmar/limits.js';
import { ChunkCheck } from './chunk-check.js';
import { openFrame } from './frame-open.js';
import type { CarryJob, LoadReport } from './load-job.js';
import { readWhole } from './positioned-read.js';
import type { SlotMemory } from './slot-memory.js';
import type { Implementation } from './thread-tools.js';

/** See Executor.carry. */
export function carry(
  job: Omit<CarryJob, 'into'>,
  into: SlotMemory,
  hash: HashName,
  implementation: Implementation,
): LoadReport {
  const { frame, chunks } = job;
  const good = new Uint8Array(chunks.length);
  // Numbers come from a file: nothing is allocated for more than a frame may be.
  if (frame.storedBytes > into.bytes.byteLength || frame.rawBytes > MAX_FRAME_BYTES)
    return { problem: 'decompress', good };
  const { buffer, byteOffset } = into.bytes;
  const stored = Buffer.from(buffer, byteOffset, frame.storedBytes);
  const outcome = readWhole(job.fd, stored, frame.storedBytes, frame.offsetBytes, job.object);
  if (outcome !== 'ok') return { problem: 'read-error', good };
  const raw = openFrame(frame, stored, hash, implementation);
  if (typeof raw === 'string') return { problem: raw, good };
  const check = new ChunkCheck(hash, implementation);
  check.begin(raw);
  for (const [index, chunk] of chunks.entries()) good[index] = check.passes(chunk) ? 1 : 0;
  return { problem: undefined, good };
}
