// SPDX-License-Identifier: MIT
// Reads one frame into shared memory and checks chunks in it. Damage costs no more than it must: of a frame whose seal or
// compression is broken the chunks that still match their ids are good, for nothing but their true bytes does.

import { type HashName, sealer } from '../../formats/vmar/hash.js';
import { MAX_FRAME_BYTES } from '../../formats/vmar/limits.js';
import { bytesEqual } from '../base/bytes.js';
import { ChunkCheck } from './chunk-check.js';
import type { LoadJob, LoadReport } from './load-job.js';
import { readUpTo } from './positioned-read.js';
import { decompressPart, decompressWhole, type Implementation, Scratch } from './thread-tools.js';

const storedScratch = new Scratch();

/** See Executor.load. */
export function load(job: LoadJob, hash: HashName, implementation: Implementation): LoadReport {
  const { frame, chunks, memory } = job;
  const good = new Uint8Array(chunks.length);
  // Numbers come from a file: nothing is allocated for more than a frame may be.
  if (frame.storedBytes > MAX_FRAME_BYTES || frame.rawBytes > memory.byteLength) return { problem: 'decompress', good };
  const raw = Buffer.from(memory, 0, frame.rawBytes);
  const problem = fill(job, raw, hash, implementation);
  const check = new ChunkCheck(hash, implementation);
  check.begin(raw);
  for (const [index, chunk] of chunks.entries()) good[index] = check.passes(chunk) ? 1 : 0;
  return { problem, good };
}

function fill(job: LoadJob, raw: Buffer, hash: HashName, implementation: Implementation): LoadReport['problem'] {
  const { codec, storedBytes, offsetBytes, seal } = job.frame;
  // What is stored as it is needs no way round.
  const isRaw = codec === 0 && storedBytes === raw.byteLength;
  const stored = isRaw ? raw : storedScratch.take(storedBytes);
  const { outcome, got } = readUpTo(job.fd, stored, storedBytes, offsetBytes, job.object);
  const isWhole = outcome === 'ok';
  const isSealed = isWhole && bytesEqual(sealer(hash, implementation)(stored), seal);
  const isOpen = isRaw || (isSealed && codec === 1 && decompressWhole(stored, raw));
  if (isSealed && isOpen) return undefined;
  if (!isRaw && codec === 1) decompressPart(stored.subarray(0, got), raw);
  if (!isWhole) return 'read-error';
  return isSealed ? 'decompress' : 'seal';
}
