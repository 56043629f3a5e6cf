// SPDX-License-Identifier: MIT
// Joins new chunks into frames of up to 1 MiB, has them compressed, and hands them on in the order in which the chunks
// came. Chunks are not copied here while most of a slot is new: the worker gathers them; a few chunks out of many slots
// are copied together, so that the slots go back to the source at once.

import type { ChunkEntry } from '../../formats/vmar/extent.js';
import { FailedError } from '../base/errors.js';
import { copyBytes } from '../base/syscalls.js';
import type { CompressedFrame, Executor, Piece } from '../pipeline/executor.js';
import type { Slot, SlotPool } from '../pipeline/slots.js';
import type { FramePart } from '../store/container-writer.js';

/** Where finished frames go; calls do not overlap. */
export interface FrameOutput {
  /** `release` is called once the part's bytes are no longer needed, also after a failure. */
  add(part: FramePart, release: () => void): Promise<void>;
}

export interface FrameBuilderOptions {
  readonly executor: Executor;
  /** Slots of frame size to copy scattered chunks into; never the source's, or both would wait for each other. */
  readonly gatherSlots: SlotPool;
  /** Slots for compressed frames. */
  readonly frameSlots: SlotPool;
  readonly output: FrameOutput;
  /** Raw bytes at which a frame is closed; a single larger chunk makes a frame of its own. */
  readonly frameBytes: number;
}

/** One new chunk in a slot. */
export interface NewChunk {
  readonly offsetBytes: number;
  readonly entry: ChunkEntry;
}

/** A frame is also closed early once it is this full and a slot has ended, so that it needs no gathering. */
const NEARLY_FULL = 0.75;
/** A stored frame that fills less of its slot than this moves to memory of its own, so that the slot is free again. */
const SMALL_FRAME = 0.25;

/** Calls must not overlap: await each before the next. */
export class FrameBuilder {
  readonly #options: FrameBuilderOptions;
  #pieces: Piece[] = [];
  #entries: ChunkEntry[] = [];
  #bytes = 0;
  /** The slot that scattered chunks are being copied into, a part of the current frame. */
  #gather: { slot: Slot; used: number } | undefined;
  #written: Promise<void> = Promise.resolve();
  #failure: unknown;

  constructor(options: FrameBuilderOptions) {
    this.#options = options;
  }

  /** Adds the new chunks of one slot, of which `slotBytes` are filled. The slot is retained as long as it is needed. */
  async addFromSlot(slot: Slot, slotBytes: number, chunks: readonly NewChunk[]): Promise<void> {
    let newBytes = 0;
    for (const chunk of chunks) newBytes += chunk.entry.lengthBytes;
    if (newBytes * 2 < slotBytes) {
      for (const chunk of chunks) {
        const bytes = slot.bytes.subarray(chunk.offsetBytes, chunk.offsetBytes + chunk.entry.lengthBytes);
        await this.addCopy(bytes, chunk.entry);
      }
      return;
    }
    for (const chunk of chunks) await this.#addPiece(slot, chunk);
    if (this.#bytes >= NEARLY_FULL * this.#options.frameBytes) await this.flush();
  }

  async #addPiece(slot: Slot, chunk: NewChunk): Promise<void> {
    const { lengthBytes } = chunk.entry;
    await this.#makeRoom(lengthBytes);
    const last = this.#pieces.at(-1);
    if (last?.slot === slot && last.offsetBytes + last.lengthBytes === chunk.offsetBytes) {
      this.#pieces[this.#pieces.length - 1] = { ...last, lengthBytes: last.lengthBytes + lengthBytes };
    } else {
      slot.retain();
      this.#pieces.push({ slot, offsetBytes: chunk.offsetBytes, lengthBytes });
    }
    this.#entries.push(chunk.entry);
    this.#bytes += lengthBytes;
  }

  /** Adds one chunk by copying it; its memory may be reused once this resolves. */
  async addCopy(bytes: Uint8Array, entry: ChunkEntry): Promise<void> {
    await this.#makeRoom(bytes.byteLength);
    if (this.#gather === undefined) this.#gather = { slot: await this.#options.gatherSlots.acquire(), used: 0 };
    const { slot, used } = this.#gather;
    copyBytes(slot.bytes.subarray(used), bytes);
    this.#gather.used += bytes.byteLength;
    const offsetBytes = used;
    await this.#addPiece(slot, { offsetBytes, entry });
  }

  async #makeRoom(lengthBytes: number): Promise<void> {
    if (this.#bytes > 0 && this.#bytes + lengthBytes > this.#options.frameBytes) await this.flush();
  }

  /**
   * Takes a frame that is compressed already; its slot is the builder's once this resolves, and the caller's if it
   * rejects. What was added before it goes first.
   */
  async addFrame(frame: CompressedFrame, into: Slot, entries: readonly ChunkEntry[]): Promise<void> {
    await this.flush();
    this.#written = this.#written.then(async () => {
      try {
        await this.#handOn(frame, into, entries);
      } catch (error) {
        this.#failure ??= error;
      }
    });
  }

  /** Sends the frame under way off, whatever its size. */
  async flush(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#bytes === 0) return;
    const pieces = this.#pieces;
    const entries = this.#entries;
    this.#pieces = [];
    this.#entries = [];
    this.#bytes = 0;
    this.#gather?.slot.release();
    this.#gather = undefined;
    const into = await this.#options.frameSlots.acquire();
    const compressed = this.#options.executor.compress(pieces, into).finally(() => {
      for (const piece of pieces) piece.slot.release();
    });
    this.#written = this.#written.then(async () => {
      try {
        await this.#handOn(await compressed, into, entries);
      } catch (error) {
        this.#failure ??= error;
      }
    });
    compressed.catch(() => into.release());
  }

  async #handOn(frame: CompressedFrame, into: Slot, chunks: readonly ChunkEntry[]): Promise<void> {
    if (this.#failure !== undefined) {
      into.release();
      return;
    }
    const { codec, storedBytes, rawBytes, seal } = frame;
    const entry = { codec, storedBytes, rawBytes, seal, chunkCount: chunks.length };
    const stored = into.bytes.subarray(0, storedBytes);
    if (storedBytes < SMALL_FRAME * into.bytes.byteLength) {
      const bytes = Buffer.from(stored);
      into.release();
      await this.#options.output.add({ entry, bytes, chunks }, () => {});
    } else {
      await this.#options.output.add({ entry, bytes: stored, chunks }, () => into.release());
    }
  }

  /** Resolves when every frame has been handed on. */
  async finish(): Promise<void> {
    await this.flush();
    await this.#written;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Waits for what is under way and lets go of all slots. */
  async abandon(): Promise<void> {
    this.#failure ??= new FailedError('abandoned', 'the backup was abandoned');
    await this.#written;
    for (const piece of this.#pieces) piece.slot.release();
    this.#gather?.slot.release();
    this.#gather = undefined;
    this.#pieces = [];
    this.#entries = [];
    this.#bytes = 0;
  }
}
