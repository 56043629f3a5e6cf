// SPDX-License-Identifier: MIT
// Takes chunks out of a container's frames and puts them where they belong: in a file, a device or a slot.

import type { HashName } from '../../formats/vmar/hash.js';
import { MAX_FRAME_BYTES } from '../../formats/vmar/limits.js';
import { ChunkCheck } from './chunk-check.js';
import type { ExtractDamage, ExtractFrame, ExtractJob, ExtractReport, TaskTarget } from './extract-job.js';
import { ExtractWriter } from './extract-writer.js';
import { openFrame } from './frame-open.js';
import { readWhole } from './positioned-read.js';
import { type Implementation, Scratch } from './thread-tools.js';

const storedScratch = new Scratch();

/** See Executor.extract. */
export function extract(
  job: Omit<ExtractJob, 'target'>,
  target: TaskTarget,
  hash: HashName,
  implementation: Implementation,
): ExtractReport {
  const damaged: ExtractDamage[] = [];
  const writer = new ExtractWriter(target);
  const check = new ChunkCheck(hash, implementation);
  for (const [index, frame] of job.frames.entries()) {
    const raw = readFrame(job, frame, hash, implementation, writer.memoryAlignment);
    if (typeof raw === 'string') {
      const lengthBytes = frame.chunks.reduce((sum, chunk) => sum + chunk.lengthBytes, 0);
      const targetOffset = frame.chunks[0]?.targetOffset ?? 0;
      damaged.push({ frame: index, chunk: undefined, problem: raw, targetOffset, lengthBytes });
      continue;
    }
    check.begin(raw);
    for (const [number, chunk] of frame.chunks.entries()) {
      const { targetOffset, lengthBytes } = chunk;
      if (check.passes(chunk)) writer.put(raw, chunk.offsetInFrame, lengthBytes, targetOffset);
      else damaged.push({ frame: index, chunk: number, problem: 'id', targetOffset, lengthBytes });
    }
    writer.flush();
  }
  return { damaged, bytesWritten: writer.bytesWritten, directRefused: writer.directRefused };
}

function readFrame(
  job: Omit<ExtractJob, 'target'>,
  frame: ExtractFrame,
  hash: HashName,
  implementation: Implementation,
  alignment: 1 | 4096,
): Buffer | ExtractDamage['problem'] {
  // Numbers come from a file: nothing is allocated for more than a frame may be.
  if (frame.storedBytes > MAX_FRAME_BYTES || frame.rawBytes > MAX_FRAME_BYTES) return 'decompress';
  const stored = storedScratch.take(frame.storedBytes, alignment);
  if (readWhole(job.fd, stored, frame.storedBytes, frame.offsetBytes, job.object) !== 'ok') return 'read-error';
  return openFrame(frame, stored, hash, implementation, alignment);
}
