// SPDX-License-Identifier: MIT
// Joins frames into extents of a few MiB and appends them to one container. Data and map pages collect apart, so that an
// extent is of one content; frames keep their order within a content.

import type { ExtentContent } from '../../formats/vmar/extent.js';
import type { ContainerWriter, FramePart } from './container-writer.js';

const EXTENT_STORED_BYTES = 4 << 20;
const EXTENT_FRAMES = 256;
const EXTENT_CHUNKS = 8192;

interface Pending {
  parts: FramePart[];
  releases: (() => void)[];
  storedBytes: number;
  chunks: number;
}

function emptyPending(): Pending {
  return { parts: [], releases: [], storedBytes: 0, chunks: 0 };
}

/** Calls must not overlap: await each before the next. */
export class ExtentStream {
  readonly container: ContainerWriter;
  readonly #pending: Record<1 | 2, Pending> = { 1: emptyPending(), 2: emptyPending() };

  constructor(container: ContainerWriter) {
    this.container = container;
  }

  /** Bytes of the container if it were closed now, its trailer not counted. */
  get storedBytes(): number {
    return this.container.bytesWritten + this.#pending[1].storedBytes + this.#pending[2].storedBytes;
  }

  get chunkCount(): number {
    return this.container.chunkCount + this.#pending[1].chunks + this.#pending[2].chunks;
  }

  /** Takes a frame; `release` is called once its bytes are no longer needed, also after a failure. */
  async add(content: 1 | 2, part: FramePart, release: () => void): Promise<void> {
    const pending = this.#pending[content];
    pending.parts.push(part);
    pending.releases.push(release);
    pending.storedBytes += part.entry.storedBytes;
    pending.chunks += part.chunks.length;
    const full =
      pending.storedBytes >= EXTENT_STORED_BYTES ||
      pending.parts.length >= EXTENT_FRAMES ||
      pending.chunks >= EXTENT_CHUNKS;
    if (full) await this.#flush(content);
  }

  async #flush(content: 1 | 2): Promise<void> {
    const pending = this.#pending[content];
    if (pending.parts.length === 0) return;
    this.#pending[content] = emptyPending();
    try {
      await this.container.append(content, pending.parts);
    } finally {
      for (const release of pending.releases) release();
    }
  }

  /** Appends what has come together. */
  async flush(): Promise<void> {
    await this.#flush(1);
    await this.#flush(2);
  }

  /** Appends an extent of its own, after all that was added before: a manifest or prologue. */
  async addWhole(content: Extract<ExtentContent, 3 | 4>, part: FramePart): Promise<void> {
    await this.flush();
    await this.container.append(content, [part]);
  }

  /** Lets go of slots that were never written. */
  async abandon(): Promise<void> {
    for (const content of [1, 2] as const) {
      for (const release of this.#pending[content].releases) release();
      this.#pending[content] = emptyPending();
    }
    await this.container.abandon();
  }
}
