// SPDX-License-Identifier: MIT
// Reads the extents of a container front to back and checks every byte of them.

import { bytesEqual } from '../base/bytes.js';
import { type ChunkEntry, ENVELOPE_KIND, type Extent, type FrameEntry } from '../../formats/vmar/extent.js';
import { type HashName, ID_BYTES } from '../../formats/vmar/hash.js';
import { type ExtentPlace, findExtent, type FoundExtent, readExtent } from './extent-search.js';
import { FileWindow } from './file-window.js';
import { openFrame } from './frame-open.js';
import { TableSum } from './table-sum.js';
import { chunkHasher, contextHasher, type Implementation } from './thread-tools.js';

export interface VerifyJob {
  /** Of the container; stays open until the promise settles. */
  readonly fd: number;
  /** The container, for messages. */
  readonly object: string;
  readonly hash: HashName;
  readonly containerId: Uint8Array;
  /** Offset of the first extent. */
  readonly from: number;
  /** Offset of their end. */
  readonly to: number;
  readonly firstSequence: number;
  /** Number of the first frame in the container's frame table. */
  readonly firstFrame: number;
  /** 'quick' checks headers and tables, 'full' frames and chunks as well. */
  readonly mode: 'full' | 'quick';
  /** By default the executor's. */
  readonly implementation?: Implementation;
  /** Ends with the extent that reaches so many bytes, so that long containers can be walked in steps. */
  readonly stopAfterBytes?: number;
}

export interface VerifyDamage {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly kind: 'extent' | 'frame' | 'chunk' | 'read-error';
  /** A sentence without file and offset. */
  readonly problem: string;
  /** The chunks lost by it, 32 bytes each; empty where they are not known. */
  readonly ids: Uint8Array;
}

export interface VerifyReport {
  readonly extents: number;
  readonly frames: number;
  /** Chunks that the chunk table holds, those in extents of content 1 and 2, and their bytes, as the footer counts. */
  readonly chunks: number;
  readonly rawBytes: number;
  /** Stored bytes of all frames. */
  readonly storedBytes: number;
  readonly damage: VerifyDamage[];
  /** See TableSum; of the same chunks. */
  readonly tableSum: Uint8Array;
  /** False if an extent could not be read: then its chunks are missing from the sum, and later frame numbers are wrong. */
  readonly tableSumKnown: boolean;
  /** Where to go on, after `stopAfterBytes`: `from`, `firstSequence` and `firstFrame` of the next job. */
  readonly nextOffset: number;
  readonly nextSequence: number;
  readonly nextFrame: number;
}

const FULL_BLOCK_BYTES = 4 << 20;
const QUICK_BLOCK_BYTES = 64 << 10;
const DIGEST_BYTES = 32;
const NO_IDS = new Uint8Array(0);

/** See Executor.verifyExtents. */
export function verifyExtents(job: VerifyJob, implementation: Implementation): VerifyReport {
  return new ExtentWalk(job, implementation).run();
}

class ExtentWalk {
  readonly #job: VerifyJob;
  readonly #implementation: Implementation;
  readonly #window: FileWindow;
  readonly #place: ExtentPlace;
  readonly #sum: TableSum;
  readonly #damage: VerifyDamage[] = [];
  readonly #id = Buffer.alloc(ID_BYTES);
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
    this.#implementation = job.implementation ?? implementation;
    const blockBytes = job.mode === 'full' ? FULL_BLOCK_BYTES : QUICK_BLOCK_BYTES;
    this.#window = new FileWindow(job.fd, job.object, job.to, blockBytes);
    this.#place = job;
    this.#sum = new TableSum(job.hash);
    this.#offset = job.from;
    this.#sequence = job.firstSequence;
    this.#frame = job.firstFrame;
  }

  run(): VerifyReport {
    const stop = Math.min(this.#job.to, this.#job.from + (this.#job.stopAfterBytes ?? Number.POSITIVE_INFINITY));
    while (this.#offset < stop) {
      const found = readExtent(this.#window, this.#place, this.#offset, this.#sequence);
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
    const next = findExtent(this.#window, this.#place, this.#offset + 1);
    this.#damage.push({ offsetBytes: this.#offset, lengthBytes: next - this.#offset, ...problem, ids: NO_IDS });
    this.#sumKnown = false;
    this.#offset = next;
    if (next === this.#job.to) return;
    const found = readExtent(this.#window, this.#place, next);
    if ('extent' in found) this.#sequence = found.extent.sequence;
  }

  #takeExtent({ extent, headBytes, totalBytes }: FoundExtent): void {
    this.#countExtent(extent);
    if (this.#job.mode === 'full') this.#checkFrames(extent, this.#offset + headBytes);
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

  #checkFrames(extent: Extent, firstOffset: number): void {
    let offset = firstOffset;
    let chunk = 0;
    for (const frame of extent.frames) {
      this.#checkFrame(frame, extent.chunks.slice(chunk, chunk + frame.chunkCount), offset);
      chunk += frame.chunkCount;
      offset += frame.storedBytes;
    }
  }

  #checkFrame(frame: FrameEntry, chunks: readonly ChunkEntry[], offset: number): void {
    const stored = this.#window.view(offset, frame.storedBytes);
    if (stored === undefined) return this.#report(frame, offset, 'read-error', 'a frame cannot be read', chunks);
    const raw = openFrame(frame, stored, this.#job.hash, this.#implementation);
    if (raw === 'seal') return this.#report(frame, offset, 'frame', 'the seal of a frame does not match', chunks);
    if (raw === 'decompress') return this.#report(frame, offset, 'frame', 'a frame does not decompress', chunks);
    let at = 0;
    const bad: ChunkEntry[] = [];
    for (const chunk of chunks) {
      if (!this.#isChunk(chunk, raw.subarray(at, at + chunk.lengthBytes))) bad.push(chunk);
      at += chunk.lengthBytes;
    }
    if (bad.length > 0) this.#report(frame, offset, 'chunk', 'the content of a chunk does not match its id', bad);
  }

  #isChunk(chunk: ChunkEntry, bytes: Buffer): boolean {
    if (chunk.kind !== ENVELOPE_KIND) {
      chunkHasher(this.#job.hash, chunk.kind, this.#implementation).into(bytes, this.#id);
      return this.#id.equals(chunk.id);
    }
    // An envelope ends with its digest, which is its id.
    const end = bytes.byteLength - DIGEST_BYTES;
    if (end <= 0 || !bytesEqual(bytes.subarray(end), chunk.id)) return false;
    contextHasher(this.#job.hash, 'manifest', this.#implementation).into(bytes.subarray(0, end), this.#id);
    return this.#id.equals(chunk.id);
  }

  #report(
    frame: FrameEntry,
    offsetBytes: number,
    kind: VerifyDamage['kind'],
    problem: string,
    chunks: readonly ChunkEntry[],
  ): void {
    const ids = Buffer.concat(chunks.map((chunk) => chunk.id));
    this.#damage.push({ offsetBytes, lengthBytes: frame.storedBytes, kind, problem, ids });
  }
}
