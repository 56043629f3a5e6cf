// SPDX-License-Identifier: MIT
// Live restore's filter: a device that is still being filled from a backing, usable as if it were full already.

import { isAllZero } from '../../base/bytes.js';
import { isSize } from '../../base/checked.js';
import { UsageError } from '../../base/errors.js';
import type { BlockNode, FilterDevice } from '../block-node.js';
import type { BlockDevice, BlockExtent } from '../device.js';
import type { DirtyBitmap } from '../dirty-bitmap.js';
import { checkRange, checkWritable } from '../range.js';
import { Backing } from './alloc-track-backing.js';
import { Holding } from './alloc-track-holding.js';
import { allSettled, flips, type Range } from './alloc-track-ranges.js';

/** What a fill copies at a time. */
const FILL_PIECE_BYTES = 1 << 20;
/** As many as a stream job has fills under way. */
const SPARE_BUFFERS = 2;
/** Zeros that a fill has to write, at a time: guest writes to the range wait that long. */
const ZERO_PIECE_BYTES = 16 << 20;
/** Of copy-on-read; a read that would exceed it is answered without a copy. */
const MOST_COPYING_BYTES = 16 << 20;
/** What one answer to blockStatus holds. */
const MOST_EXTENTS = 256;

export interface AllocTrackOptions {
  /** What shows where the target holds nothing; it never changes. Shorter than the target: zeros follow. Not closed. */
  readonly backing: BlockDevice | undefined;
  /** A power of two, 4096 by default: the unit of what is held. */
  readonly granularityBytes?: number;
  /** What the target holds already; taken over, not copied. Nothing by default. */
  readonly held?: DirtyBitmap;
  /**
   * The target reads as zeros wherever it holds nothing, so that zeros need not be written there. Not to be said of a
   * target that an earlier process wrote to: a write that was not recorded may lie there.
   */
  readonly targetIsZero: boolean;
  /**
   * Called when the content of whole granules is in the target, before the request is acknowledged and before reads see
   * the range as held. When it rejects, the request fails and the range stays as it was.
   */
  readonly onHeld?: (offsetBytes: number, lengthBytes: number) => Promise<void> | undefined;
  /** A flush resolves when the target's flush has, and then this. */
  readonly onFlushed?: () => Promise<void>;
  /** What a read takes from the backing is then put into the target, behind the reader's back. */
  readonly copyOnRead?: boolean;
}

/**
 * Reads take what the target holds from there, the rest from the backing. Writes go to the target, which then holds them.
 *
 * - A granule is held only after its content is in the target and `onHeld` resolved. It stays held for good.
 * - Stop at any moment: with what `onHeld` recorded, the target gives back every acknowledged write, and the backing
 *   the rest.
 * - A granule that is not held changes only under a claim in the list of requests, which looks again what is held: a fill
 *   or a copy never overwrites what a guest wrote. Claims are short: the backing is read before them, since it never
 *   changes.
 * - After a write was acknowledged, or another read returned its data, no read is answered with the old data.
 * - A write to a part of a granule that is not held reads the rest of it from the backing; a write of whole granules
 *   never reads. A discard of what is not held makes it zeros, and held: nothing old shows through.
 * - An error of the backing fails the read, fill or small write that needed it, and marks nothing.
 * - Requests that touch only held granules go straight to the target.
 */
export class AllocTrack implements FilterDevice {
  readonly alignmentBytes: number;
  readonly #holding: Holding;
  readonly #backing: Backing;
  readonly #options: AllocTrackOptions;
  /** Of copy-on-read, under way. */
  #copyingBytes = 0;
  /** Of FILL_PIECE_BYTES each, for fills to come. */
  readonly #spareBuffers: Buffer[] = [];

  /** @param below the target */
  constructor(
    readonly below: BlockNode,
    options: AllocTrackOptions,
  ) {
    if (options.backing !== undefined && options.backing.lengthBytes > below.lengthBytes) {
      throw new UsageError('target-too-small', 'the target is smaller than what it is to be filled with', {
        object: below.name,
        expected: `${options.backing.lengthBytes} bytes`,
        found: `${below.lengthBytes} bytes`,
      });
    }
    this.#holding = new Holding(below, options);
    this.#backing = new Backing(options.backing);
    this.#options = options;
    this.alignmentBytes = Math.max(this.granularityBytes, below.alignmentBytes);
  }

  get name(): string {
    return this.below.name;
  }

  get lengthBytes(): number {
    return this.below.lengthBytes;
  }

  get readOnly(): boolean {
    return this.below.readOnly;
  }

  /** What the target holds. Not to be changed by others. */
  get held(): DirtyBitmap {
    return this.#holding.held;
  }

  /** The unit of what is held. */
  get granularityBytes(): number {
    return this.held.granularityBytes;
  }

  /** True when the target holds everything: the backing is needed no more. */
  get isComplete(): boolean {
    return this.held.isAllDirty;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    if (this.#holding.isHeld(offsetBytes, into.byteLength)) return this.below.read(offsetBytes, into);
    await this.#readMixed(offsetBytes, into);
  }

  tryRead(offsetBytes: number, into: Uint8Array): boolean {
    const isInside = isSize(offsetBytes) && offsetBytes <= this.lengthBytes - into.byteLength;
    return isInside && this.#holding.isHeld(offsetBytes, into.byteLength) && this.below.tryRead(offsetBytes, into);
  }

  /**
   * Reads each part from where it is. What became held while others were read is read anew, until nothing does: so
   * the answer holds nothing from the backing that is old by now. Each round needs a granule that became held, so the
   * rounds end.
   */
  async #readMixed(offsetBytes: number, into: Uint8Array): Promise<void> {
    const within = (range: Range) => into.subarray(range.from - offsetBytes, range.to - offsetBytes);
    const failed: { range: Range; error: unknown }[] = [];
    const readBacked = async (range: Range): Promise<void> => {
      try {
        await this.#readBacked(range, within(range));
      } catch (error) {
        failed.push({ range, error });
      }
    };
    let backed: Range[] = [];
    const parts = [...flips(this.held, offsetBytes, offsetBytes + into.byteLength)];
    await allSettled(
      parts.map((part) => {
        if (part.held) return this.below.read(part.from, within(part));
        backed.push(part);
        return readBacked(part);
      }),
    );
    for (;;) {
      const now = backed.flatMap((range) => [...flips(this.held, range.from, range.to)]);
      const changed = now.filter((part) => part.held);
      backed = now.filter((part) => !part.held);
      if (changed.length === 0) break;
      await allSettled(changed.map((part) => this.below.read(part.from, within(part))));
    }
    for (const { range, error } of failed) if (!this.#holding.isHeld(range.from, range.to - range.from)) throw error;
  }

  async #readBacked(range: Range, into: Uint8Array): Promise<void> {
    const whole = this.#holding.wholeGranules(range.from, range.to);
    const lengthBytes = whole.to - whole.from;
    if (this.#options.copyOnRead !== true || this.readOnly || this.#copyingBytes + lengthBytes > MOST_COPYING_BYTES) {
      return this.#backing.read(range.from, into);
    }
    this.#copyingBytes += lengthBytes;
    const bytes = Buffer.allocUnsafe(lengthBytes);
    try {
      await this.#backing.read(whole.from, bytes);
    } catch (error) {
      this.#copyingBytes -= lengthBytes;
      throw error;
    }
    into.set(bytes.subarray(range.from - whole.from, range.to - whole.from));
    // Nobody waits for it; a failure is no concern of the reader's, and the fill will meet it again.
    void this.#holding
      .tryStore(whole, isAllZero(bytes) ? 'zeros' : bytes)
      .catch(() => undefined)
      .finally(() => {
        this.#copyingBytes -= lengthBytes;
      });
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, from.byteLength);
    if (this.#holding.isHeld(offsetBytes, from.byteLength)) return this.below.write(offsetBytes, from);
    const whole = this.#holding.wholeGranules(offsetBytes, offsetBytes + from.byteLength);
    const end = offsetBytes + from.byteLength;
    const [head, tail] = await Promise.all([this.#rest(whole.from, offsetBytes), this.#rest(end, whole.to)]);
    await this.#holding.hold(whole, () => {
      const before = head !== undefined && !this.held.get(whole.from) ? bytesOf(head) : undefined;
      const after = tail !== undefined && !this.held.get(end) ? bytesOf(tail) : undefined;
      if (before === undefined && after === undefined) return this.below.write(offsetBytes, from);
      const bytes = Buffer.concat([before ?? EMPTY, from, after ?? EMPTY]);
      return this.below.write(offsetBytes - (before?.byteLength ?? 0), bytes);
    });
  }

  /** What surrounds a small write in its granule. An error counts only if it is needed still when the claim is there. */
  async #rest(from: number, to: number): Promise<Uint8Array | { error: unknown } | undefined> {
    if (from === to || this.held.get(from)) return undefined;
    const bytes = Buffer.allocUnsafe(to - from);
    try {
      await this.#backing.read(from, bytes);
      return bytes;
    } catch (error) {
      return { error };
    }
  }

  async writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    options: { keepAllocated?: boolean } = {},
  ): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    if (this.#holding.isHeld(offsetBytes, lengthBytes))
      return this.below.writeZeroes(offsetBytes, lengthBytes, options);
    const end = offsetBytes + lengthBytes;
    const inner = this.#holding.innerGranules(offsetBytes, end);
    if (offsetBytes < inner.from) await this.write(offsetBytes, Buffer.alloc(inner.from - offsetBytes));
    if (inner.from < inner.to) {
      await this.#holding.hold(inner, async () => {
        if (options.keepAllocated !== true && this.#holding.isBlank(inner)) return;
        await this.below.writeZeroes(inner.from, inner.to - inner.from, options);
      });
    }
    if (inner.to < end) await this.write(inner.to, Buffer.alloc(end - inner.to));
  }

  /** Where nothing is held, zeros are written instead: neither the backing nor old content of the target shows through. */
  async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    if (this.#holding.isHeld(offsetBytes, lengthBytes)) return this.below.discard(offsetBytes, lengthBytes);
    for (const part of flips(this.held, offsetBytes, offsetBytes + lengthBytes)) {
      if (part.held) await this.below.discard(part.from, part.to - part.from);
      else await this.writeZeroes(part.from, part.to - part.from);
    }
  }

  async flush(): Promise<void> {
    await this.below.flush();
    await this.#options.onFlushed?.();
  }

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    const extents: BlockExtent[] = [];
    for (const part of flips(this.held, offsetBytes, offsetBytes + lengthBytes)) {
      const length = part.to - part.from;
      const found = part.held
        ? await this.below.blockStatus(part.from, length)
        : await this.#backing.blockStatus(part.from, length);
      extents.push(...found);
      const last = found.at(-1);
      const isWhole = last !== undefined && last.offsetBytes + last.lengthBytes === part.to;
      if (!isWhole || extents.length >= MOST_EXTENTS) break;
    }
    return extents;
  }

  async prefetch(offsetBytes: number, lengthBytes: number): Promise<void> {
    const end = Math.min(offsetBytes + lengthBytes, this.lengthBytes);
    const clean = this.held.nextClean(offsetBytes, end);
    if (clean === undefined) return this.below.prefetch(offsetBytes, lengthBytes);
    await this.#backing.prefetch(clean, (this.held.nextDirty(clean, end) ?? end) - clean);
  }

  /**
   * Copies what the range lacks from the backing, whole granules, in pieces; zeros of the backing are held without being
   * read. Gives the bytes that it made held. Rejects with the first error, having kept what was copied until then.
   * Takes the memory of one piece. Guest requests wait only for the writing of a piece that they overlap.
   */
  async fill(offsetBytes: number, lengthBytes: number): Promise<{ filledBytes: number }> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    const { from, to } = this.#holding.wholeGranules(offsetBytes, offsetBytes + lengthBytes);
    let filledBytes = 0;
    for (let at = this.held.nextClean(from, to); at !== undefined; at = this.held.nextClean(at, to)) {
      const piece = await this.#nextPiece(at, this.held.nextDirty(at, to) ?? to);
      filledBytes +=
        piece.state === 'zero' ? await this.#holding.store(piece.range, 'zeros') : await this.#copy(piece.range);
      at = piece.range.to;
    }
    return { filledBytes };
  }

  /** Copies a piece; gives the bytes that became held. Buffers are used again: new ones would keep the collector busy. */
  async #copy({ from, to }: Range): Promise<number> {
    const buffer = (to - from <= FILL_PIECE_BYTES ? this.#spareBuffers.pop() : undefined) ?? this.#newBuffer(to - from);
    try {
      const bytes = buffer.subarray(0, to - from);
      await this.#backing.read(from, bytes);
      return await this.#holding.store({ from, to }, isAllZero(bytes) ? 'zeros' : bytes);
    } finally {
      if (buffer.length === FILL_PIECE_BYTES && this.#spareBuffers.length < SPARE_BUFFERS)
        this.#spareBuffers.push(buffer);
    }
  }

  #newBuffer(lengthBytes: number): Buffer {
    return Buffer.allocUnsafeSlow(Math.max(lengthBytes, FILL_PIECE_BYTES));
  }

  /** How much from `at` on, a granule's start, can be filled alike. Zero granules are those that are zero as a whole. */
  async #nextPiece(at: number, end: number): Promise<{ range: Range; state: 'data' | 'zero' }> {
    const extents = await this.#backing.blockStatus(at, end - at);
    const state = extents[0]?.state ?? 'data';
    let to = at;
    for (const extent of extents) {
      if (extent.state !== state) break;
      to = extent.offsetBytes + extent.lengthBytes;
    }
    const zeroEnd = to === end ? end : to - (to % this.granularityBytes);
    if (state === 'zero' && zeroEnd > at) {
      const most = this.#options.targetIsZero ? zeroEnd : this.#holding.wholeGranules(at, at + ZERO_PIECE_BYTES).to;
      return { range: { from: at, to: Math.min(zeroEnd, most) }, state };
    }
    const dataEnd = Math.min(
      this.#holding.wholeGranules(at, to).to,
      this.#holding.wholeGranules(at, at + FILL_PIECE_BYTES).to,
      end,
    );
    return { range: { from: at, to: dataEnd }, state: 'data' };
  }

  /**
   * Lets go of the backing, which may be closed when this has resolved: no read uses it then. Rejects with UsageError
   * while something is not held.
   */
  async detachBacking(): Promise<void> {
    this.#checkComplete();
    await this.#backing.detach();
  }

  #checkComplete(): void {
    if (this.isComplete) return;
    throw new UsageError('not-complete', 'the backing is needed still: the target does not hold everything', {
      object: this.name,
      expected: `${this.lengthBytes} bytes`,
      found: `${this.held.dirtyBytes} bytes`,
    });
  }

  /** Resolves when what copy-on-read still has under way is done. Rejects, so that the filter stays, while it is needed. */
  async detach(): Promise<void> {
    this.#checkComplete();
    await this.#holding.requests.drained();
  }

  /** Closes the target, when what is under way has ended. */
  async close(): Promise<void> {
    await this.#holding.requests.drained();
    await this.below.close();
  }
}

const EMPTY = new Uint8Array(0);

function bytesOf(rest: Uint8Array | { error: unknown }): Uint8Array {
  if ('error' in rest) throw rest.error;
  return rest;
}
