// SPDX-License-Identifier: MIT
// Checks the frames of an extent: seals, decompression, ids.

import { type ChunkEntry, ENVELOPE_KIND, type Extent, type FrameEntry } from '../../formats/vmar/extent.js';
import { type HashName, ID_BYTES } from '../../formats/vmar/hash.js';
import { bytesEqual } from '../base/bytes.js';
import type { FileWindow } from './file-window.js';
import { openFrame } from './frame-open.js';
import { chunkHasher, contextHasher, type Implementation } from './thread-tools.js';
import type { VerifyDamage } from './verify-job.js';

const DIGEST_BYTES = 32;
const FRAME_PROBLEMS = {
  'read-error': 'a frame cannot be read',
  seal: 'the seal of a frame does not match',
  decompress: 'a frame does not decompress',
} as const;

export class FrameCheck {
  readonly #window: FileWindow;
  readonly #hash: HashName;
  readonly #implementation: Implementation;
  readonly #damage: VerifyDamage[];
  readonly #id = Buffer.alloc(ID_BYTES);

  /** What is found is appended to `damage`. */
  constructor(window: FileWindow, hash: HashName, implementation: Implementation, damage: VerifyDamage[]) {
    this.#window = window;
    this.#hash = hash;
    this.#implementation = implementation;
    this.#damage = damage;
  }

  /** Checks all frames of an extent, the first of which lies at `firstOffset`. */
  check(extent: Extent, firstOffset: number): void {
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
    const raw = stored === undefined ? 'read-error' : openFrame(frame, stored, this.#hash, this.#implementation);
    if (typeof raw === 'string') {
      this.#report(frame, offset, raw === 'read-error' ? raw : 'frame', FRAME_PROBLEMS[raw], chunks);
      return;
    }
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
      chunkHasher(this.#hash, chunk.kind, this.#implementation).into(bytes, this.#id);
      return this.#id.equals(chunk.id);
    }
    // An envelope ends with its digest, which is its id.
    const end = bytes.byteLength - DIGEST_BYTES;
    if (end <= 0 || !bytesEqual(bytes.subarray(end), chunk.id)) return false;
    contextHasher(this.#hash, 'manifest', this.#implementation).into(bytes.subarray(0, end), this.#id);
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
