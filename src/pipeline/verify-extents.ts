// SPDX-License-Identifier: MIT
// Reads the extents of a container front to back and checks every byte of them.

import type { ChunkEntry, Extent } from '../../formats/vmar/extent.js';
import { type FoundExtent, findExtent, readExtent } from './extent-search.js';
import { FileWindow } from './file-window.js';
import { FrameCheck } from './frame-check.js';
import { TableSum } from './table-sum.js';
import type { Implementation } from './thread-tools.js';
import type { VerifyDamage, VerifyJob, VerifyReport } from './verify-job.js';

const FULL_BLOCK_BYTES = 4 << 20;
const QUICK_BLOCK_BYTES = 64 << 10;
const NO_IDS = new Uint8Array(0);

/** See Executor.verifyExtents. */
export function verifyExtents(job: VerifyJob, implementation: Implementation): VerifyReport {
  return new ExtentWalk(job, implementation).run();
}

class ExtentWalk {
  readonly #job: VerifyJob;
  readonly #window: FileWindow;
  readonly #frameCheck: FrameCheck;
  readonly #sum: TableSum;
  readonly #damage: VerifyDamage[] = [];
  #extents = 0;
  #frames = 0;
  #chunks = 0;
  #rawBytes = 0;
  #storedBytes = 0;
  #sumKnown = true;
  #offset: number;
  #sequence: number;
  #frame: number;

  constructor(job: VerifyJob, implementation: Implementation) {
    this.#job = job;
    const blockBytes = job.mode === 'full' ? FULL_BLOCK_BYTES : QUICK_BLOCK_BYTES;
    this.#window = new FileWindow(job.fd, job.object, job.to, blockBytes);
    this.#frameCheck = new FrameCheck(this.#window, job.hash, job.implementation ?? implementation, this.#damage);
    this.#sum = new TableSum(job.hash);
    this.#offset = job.from;
    this.#sequence = job.firstSequence;
    this.#frame = job.firstFrame;
  }

  run(): VerifyReport {
    const stop = Math.min(this.#job.to, this.#job.from + (this.#job.stopAfterBytes ?? Number.POSITIVE_INFINITY));
    while (this.#offset < stop) {
      const found = readExtent(this.#window, this.#job, this.#offset, this.#sequence);
      if ('extent' in found) this.#takeExtent(found);
      else this.#passOver(found);
    }
    return {
      extents: this.#extents,
      frames: this.#frames,
      chunks: this.#chunks,
      rawBytes: this.#rawBytes,
      storedBytes: this.#storedBytes,
      damage: this.#damage,
      tableSum: this.#sum.bytes(),
      tableSumKnown: this.#sumKnown,
      nextOffset: this.#offset,
      nextSequence: this.#sequence,
      nextFrame: this.#frame,
    };
  }

  /** One report for all that lies between here and the next valid extent. */
  #passOver(problem: Pick<VerifyDamage, 'kind' | 'problem'>): void {
    const next = findExtent(this.#window, this.#job, this.#offset + 1);
    this.#damage.push({ offsetBytes: this.#offset, lengthBytes: next - this.#offset, ...problem, ids: NO_IDS });
    this.#sumKnown = false;
    this.#offset = next;
    if (next === this.#job.to) return;
    const found = readExtent(this.#window, this.#job, next);
    if ('extent' in found) this.#sequence = found.extent.sequence;
  }

  #takeExtent({ extent, headBytes, totalBytes }: FoundExtent): void {
    this.#countExtent(extent);
    if (this.#job.mode === 'full') this.#frameCheck.check(extent, this.#offset + headBytes);
    this.#offset += totalBytes;
    this.#sequence++;
  }

  #countExtent(extent: Extent): void {
    this.#extents++;
    const tabulated = extent.content === 1 || extent.content === 2;
    let chunk = 0;
    for (const frame of extent.frames) {
      if (tabulated) this.#countChunks(extent.chunks, chunk, frame.chunkCount);
      chunk += frame.chunkCount;
      this.#storedBytes += frame.storedBytes;
      this.#frames++;
      this.#frame++;
    }
  }

  #countChunks(chunks: readonly ChunkEntry[], first: number, count: number): void {
    let offsetBytes = 0;
    for (let chunk = first; chunk < first + count; chunk++) {
      const { id, lengthBytes, kind } = chunks[chunk]!;
      this.#sum.addChunk({ id, frame: this.#frame, offsetBytes, lengthBytes, kind });
      offsetBytes += lengthBytes;
    }
    this.#chunks += count;
    this.#rawBytes += offsetBytes;
  }
}
