// SPDX-License-Identifier: MIT
// Turns a piece of a map into reads: which frames of which containers, and where each of their chunks goes. Every frame
// of the piece is read once, however its chunks are scattered over the disk.

import { DamageError, VmarError } from '../base/errors.js';
import type { ExtractFrame } from '../pipeline/executor.js';
import type { ContainerReader } from '../store/container-reader.js';
import type { ChunkPlace, ChunkSource } from './chunk-source.js';
import { isZeroId } from './map-reader.js';

/** Frames of one container, to be extracted together. */
export interface ExtractBatch {
  readonly container: ContainerReader;
  readonly frames: ExtractFrame[];
}

/** A range of the disk whose chunk has no known place. */
export interface UnplacedChunk {
  readonly id: Uint8Array;
  readonly targetOffset: number;
  readonly lengthBytes: number;
}

export interface RestorePlan {
  readonly batches: ExtractBatch[];
  readonly unplaced: UnplacedChunk[];
  /** Ranges of zeros, in order, neighbours joined. */
  readonly zeros: { readonly offsetBytes: number; readonly lengthBytes: number }[];
}

/** Frames of a batch: a few MiB, so that all workers have something to do. */
const BATCH_FRAMES = 8;

type OpenFrame = { chunks: ExtractFrame['chunks'][number][]; frame: number; container: ContainerReader };

/** Plans the clusters of one or more leaf pages of a disk. */
export class RestorePlanner {
  readonly #source: ChunkSource;
  readonly #clusterSizeBytes: number;
  readonly #sizeBytes: number;
  #frames = new Map<string, OpenFrame>();
  #unplaced: UnplacedChunk[] = [];
  #zeros: { offsetBytes: number; lengthBytes: number }[] = [];

  constructor(source: ChunkSource, disk: { sizeBytes: number; clusterSizeBytes: number }) {
    this.#source = source;
    this.#clusterSizeBytes = disk.clusterSizeBytes;
    this.#sizeBytes = disk.sizeBytes;
  }

  addPage(firstCluster: number, ids: Uint8Array): void {
    const count = ids.byteLength / 32;
    for (let i = 0; i < count; i++) {
      const id = ids.subarray(i * 32, i * 32 + 32);
      if (isZeroId(id)) this.addZeros(firstCluster + i, 1);
      else this.#addChunk(firstCluster + i, id);
    }
  }

  addZeros(firstCluster: number, count: number): void {
    const offsetBytes = firstCluster * this.#clusterSizeBytes;
    const end = Math.min(this.#sizeBytes, (firstCluster + count) * this.#clusterSizeBytes);
    const last = this.#zeros.at(-1);
    if (last !== undefined && last.offsetBytes + last.lengthBytes === offsetBytes)
      last.lengthBytes = end - last.offsetBytes;
    else this.#zeros.push({ offsetBytes, lengthBytes: end - offsetBytes });
  }

  #addChunk(cluster: number, id: Uint8Array): void {
    const targetOffset = cluster * this.#clusterSizeBytes;
    const lengthBytes = Math.min(this.#clusterSizeBytes, this.#sizeBytes - targetOffset);
    const place = this.#likely(id);
    if (place === undefined || place.lengthBytes !== lengthBytes) {
      this.#unplaced.push({ id: Uint8Array.from(id), targetOffset, lengthBytes });
      return;
    }
    const key = `${place.frame}@${place.container.path}`;
    let open = this.#frames.get(key);
    if (open === undefined) {
      open = { chunks: [], frame: place.frame, container: place.container };
      this.#frames.set(key, open);
    }
    open.chunks.push({ offsetInFrame: place.offsetBytes, lengthBytes, id, kind: 0, targetOffset });
  }

  #likely(id: Uint8Array): ChunkPlace | undefined {
    try {
      return this.#source.locate(id);
    } catch (error) {
      if (error instanceof DamageError) return undefined;
      throw error;
    }
  }

  get frameCount(): number {
    return this.#frames.size;
  }

  get unplacedCount(): number {
    return this.#unplaced.length;
  }

  /** What was added since the last call, as batches. */
  take(): RestorePlan {
    const byContainer = new Map<ContainerReader, OpenFrame[]>();
    for (const open of this.#frames.values()) {
      const list = byContainer.get(open.container);
      if (list === undefined) byContainer.set(open.container, [open]);
      else list.push(open);
    }
    const batches: ExtractBatch[] = [];
    const unplaced = this.#unplaced;
    for (const [container, opens] of byContainer) {
      opens.sort((a, b) => a.frame - b.frame);
      for (let at = 0; at < opens.length; at += BATCH_FRAMES) {
        batches.push(this.#batch(container, opens.slice(at, at + BATCH_FRAMES), unplaced));
      }
    }
    const plan = { batches, unplaced, zeros: this.#zeros };
    this.#frames = new Map();
    this.#unplaced = [];
    this.#zeros = [];
    return plan;
  }

  #batch(container: ContainerReader, opens: readonly OpenFrame[], unplaced: UnplacedChunk[]): ExtractBatch {
    const frames: ExtractFrame[] = [];
    for (const open of opens) {
      try {
        frames.push({ ...container.frame(open.frame), chunks: open.chunks });
      } catch (error) {
        if (!(error instanceof VmarError)) throw error;
        // The frame table itself is damaged, or the index was wrong: each chunk is looked for elsewhere.
        unplaced.push(...open.chunks);
      }
    }
    return { container, frames };
  }
}
