// SPDX-License-Identifier: MIT
// What a target holds, and the one way in which it comes to hold more: content first, then the record, then the bit.

import { UsageError } from '../../base/errors.js';
import type { BlockDevice } from '../device.js';
import { DirtyBitmap } from '../dirty-bitmap.js';
import { RequestList } from '../request-list.js';
import { flips, type Range } from './alloc-track-ranges.js';

const DEFAULT_GRANULARITY_BYTES = 4096;

export interface HoldingOptions {
  readonly granularityBytes?: number;
  readonly held?: DirtyBitmap;
  readonly targetIsZero: boolean;
  readonly onHeld?: (offsetBytes: number, lengthBytes: number) => Promise<void> | undefined;
}

/**
 * The bitmap of what the target holds. A granule that is not held changes only under a claim, that is by `hold` and
 * `store`; after a claim was waited for, what is held is looked up again. A granule that is held stays so.
 */
export class Holding {
  readonly held: DirtyBitmap;
  /** Changes of granules that are not held. */
  readonly requests = new RequestList();
  /** Not held, but a failed request may have left something there: no longer zeros. */
  readonly #soiled: DirtyBitmap;

  constructor(
    readonly target: BlockDevice,
    readonly options: HoldingOptions,
  ) {
    const { lengthBytes } = target;
    const unit = options.granularityBytes ?? options.held?.granularityBytes ?? DEFAULT_GRANULARITY_BYTES;
    this.held = options.held ?? new DirtyBitmap(lengthBytes, unit);
    if (this.held.lengthBytes !== lengthBytes || this.held.granularityBytes !== unit) {
      throw new UsageError('bad-bitmap', 'the bitmap of what is held does not fit the target', {
        object: target.name,
        expected: `${lengthBytes} bytes, granularity ${unit}`,
        found: `${this.held.lengthBytes} bytes, granularity ${this.held.granularityBytes}`,
      });
    }
    this.#soiled = new DirtyBitmap(lengthBytes, unit);
  }

  isHeld(offsetBytes: number, lengthBytes: number): boolean {
    return this.held.isAllDirty || this.held.nextClean(offsetBytes, offsetBytes + lengthBytes) === undefined;
  }

  /** Whether the target holds nothing there and is known to read as zeros. */
  isBlank(range: Range): boolean {
    return (
      this.options.targetIsZero &&
      this.#soiled.nextDirty(range.from, range.to) === undefined &&
      this.held.nextDirty(range.from, range.to) === undefined
    );
  }

  /** Claims whole granules, runs the change that gives all of them their content, and holds them. */
  async hold(range: Range, change: () => Promise<void>): Promise<void> {
    const request = await this.requests.begin(range.from, range.to - range.from);
    try {
      await this.#holdClaimed(range, change);
    } finally {
      request.end();
    }
  }

  /** Puts content from the backing where nothing is held, and holds it. Gives the bytes that became held. */
  async store(range: Range, content: Uint8Array | 'zeros'): Promise<number> {
    const request = await this.requests.begin(range.from, range.to - range.from);
    try {
      return await this.#storeClaimed(range, content);
    } finally {
      request.end();
    }
  }

  /** The same, but does nothing where another request is under way. */
  async tryStore(range: Range, content: Uint8Array | 'zeros'): Promise<void> {
    const request = this.requests.tryBegin(range.from, range.to - range.from);
    if (request === undefined) return;
    try {
      await this.#storeClaimed(range, content);
    } finally {
      request.end();
    }
  }

  async #storeClaimed(range: Range, content: Uint8Array | 'zeros'): Promise<number> {
    let storedBytes = 0;
    for (const part of flips(this.held, range.from, range.to)) {
      if (part.held) continue;
      const lengthBytes = part.to - part.from;
      await this.#holdClaimed(part, async () => {
        if (content !== 'zeros') {
          await this.target.write(part.from, content.subarray(part.from - range.from, part.to - range.from));
        } else if (!this.isBlank(part)) {
          await this.target.writeZeroes(part.from, lengthBytes);
        }
      });
      storedBytes += lengthBytes;
    }
    return storedBytes;
  }

  async #holdClaimed(range: Range, change: () => Promise<void>): Promise<void> {
    const lengthBytes = range.to - range.from;
    try {
      await change();
      await this.options.onHeld?.(range.from, lengthBytes);
    } catch (error) {
      this.#soiled.set(range.from, lengthBytes);
      throw error;
    }
    this.held.set(range.from, lengthBytes);
  }

  /** The granules that the range touches; the last one ends with the target. */
  wholeGranules(from: number, to: number): Range {
    const unit = this.held.granularityBytes;
    const end = to % unit === 0 ? to : to - (to % unit) + unit;
    return { from: from - (from % unit), to: Math.min(end, this.target.lengthBytes) };
  }

  /** The granules wholly inside the range; empty, at its end, if there is none. */
  innerGranules(from: number, to: number): Range {
    const unit = this.held.granularityBytes;
    const start = from % unit === 0 ? from : from - (from % unit) + unit;
    const end = to === this.target.lengthBytes ? to : to - (to % unit);
    return start < end ? { from: start, to: end } : { from: to, to };
  }
}
