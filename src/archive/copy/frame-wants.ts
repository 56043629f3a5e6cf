// SPDX-License-Identifier: MIT
// Chunks that are wanted, gathered by the frames of the source that hold them: one of which all is wanted can be taken
// as it is stored. Frames lie in the order of the disk as it was when they were made, so chunks of one may come far apart.

import type { ChunkEntry } from '../../../formats/vmar/extent.js';
import type { TableFrame } from '../../../formats/vmar/trailer.js';
import type { ContainerReader } from '../../store/container-reader.js';
import type { ChunkPlace } from '../chunk-source.js';
import { frameKey } from '../frame-cache.js';

export interface WantedChunk {
  readonly entry: ChunkEntry;
  /** In the frame's raw bytes, as the index says. */
  readonly offsetBytes: number;
}

export interface FrameWant {
  readonly container: ContainerReader;
  readonly frame: TableFrame;
  readonly chunks: WantedChunk[];
  /** Whether the chunks are all that lie in the frame. */
  isWhole: boolean;
}

/** Wanted chunks kept in memory while others of their frames may come: some tens of MiB. */
const MOST_WAITING = 65536;

export class FrameWants {
  readonly #waiting = new Map<string, FrameWant>();
  #count = 0;

  /**
   * Takes a chunk, each once. Gives the frames that are to be taken now: the one that has become whole, and the oldest
   * where too much waits.
   * @throws DamageError if the container's table does not have the frame
   */
  add(place: ChunkPlace, entry: ChunkEntry): FrameWant[] {
    const key = frameKey(place.container, place.frame);
    let want = this.#waiting.get(key);
    if (want === undefined) {
      const { container } = place;
      want = { container, frame: container.frame(place.frame), chunks: [], isWhole: false };
      this.#waiting.set(key, want);
    }
    want.chunks.push({ entry, offsetBytes: place.offsetBytes });
    this.#count++;
    const due: FrameWant[] = [];
    if (want.chunks.length === want.frame.chunkCount) due.push(this.#take(key, want));
    while (this.#count > MOST_WAITING) due.push(this.#takeOldest());
    return due;
  }

  /** What is left. */
  *rest(): Generator<FrameWant> {
    while (this.#waiting.size > 0) yield this.#takeOldest();
  }

  #takeOldest(): FrameWant {
    const [key, want] = this.#waiting.entries().next().value as [string, FrameWant];
    return this.#take(key, want);
  }

  #take(key: string, want: FrameWant): FrameWant {
    this.#waiting.delete(key);
    this.#count -= want.chunks.length;
    want.chunks.sort((a, b) => a.offsetBytes - b.offsetBytes);
    want.isWhole = fillsFrame(want);
    return want;
  }
}

/** The index may be wrong about places: whole is what lies end to end. */
function fillsFrame({ frame, chunks }: FrameWant): boolean {
  let at = 0;
  for (const { offsetBytes, entry } of chunks) {
    if (offsetBytes !== at) return false;
    at += entry.lengthBytes;
  }
  return chunks.length === frame.chunkCount && at === frame.rawBytes;
}
