// SPDX-License-Identifier: MIT
// A device in memory that stores only what was written; its length may be anything.

import type { BlockDevice, BlockExtent } from './device.js';
import { checkRange, checkWritable } from './range.js';

/** The unit of its sparseness. */
const PAGE_BYTES = 4096;

export interface MemoryDeviceOptions {
  readonly name?: string;
  readonly readOnly?: boolean;
}

export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly alignmentBytes = 1;
  readonly readOnly: boolean;
  readonly #pages = new Map<number, Uint8Array>();
  /** Numbers of the pages held, ascending; undefined after a page came or went. */
  #sorted: number[] | undefined;

  constructor(
    readonly lengthBytes: number,
    options: MemoryDeviceOptions = {},
  ) {
    this.name = options.name ?? 'memory';
    this.readOnly = options.readOnly ?? false;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    checkRange(this, offsetBytes, into.byteLength);
    for (const part of parts(offsetBytes, into.byteLength)) {
      const page = this.#pages.get(part.page);
      if (page) into.set(page.subarray(part.from, part.to), part.at);
      else into.fill(0, part.at, part.at + part.to - part.from);
    }
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, from.byteLength);
    for (const part of parts(offsetBytes, from.byteLength)) {
      let page = this.#pages.get(part.page);
      if (!page) {
        page = new Uint8Array(PAGE_BYTES);
        this.#pages.set(part.page, page);
        this.#sorted = undefined;
      }
      page.set(from.subarray(part.at, part.at + part.to - part.from), part.from);
    }
  }

  async writeZeroes(
    offsetBytes: number,
    lengthBytes: number,
    _options: { keepAllocated?: boolean } = {},
  ): Promise<void> {
    checkWritable(this);
    checkRange(this, offsetBytes, lengthBytes);
    const end = offsetBytes + lengthBytes;
    for (const number of this.#heldBetween(offsetBytes, end)) {
      const start = number * PAGE_BYTES;
      if (start >= offsetBytes && start + PAGE_BYTES <= end) {
        this.#pages.delete(number);
        this.#sorted = undefined;
      } else {
        this.#pages.get(number)?.fill(0, Math.max(0, offsetBytes - start), Math.min(PAGE_BYTES, end - start));
      }
    }
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.writeZeroes(offsetBytes, lengthBytes);
  }

  async flush(): Promise<void> {}

  async blockStatus(offsetBytes: number, lengthBytes: number): Promise<BlockExtent[]> {
    checkRange(this, offsetBytes, lengthBytes);
    const end = offsetBytes + lengthBytes;
    const extents: BlockExtent[] = [];
    let at = offsetBytes;
    for (const number of this.#heldBetween(offsetBytes, end)) {
      const start = Math.max(offsetBytes, number * PAGE_BYTES);
      const stop = Math.min(end, (number + 1) * PAGE_BYTES);
      if (start > at) extents.push({ offsetBytes: at, lengthBytes: start - at, state: 'zero' });
      extents.push({ offsetBytes: start, lengthBytes: stop - start, state: 'data' });
      at = stop;
    }
    if (at < end) extents.push({ offsetBytes: at, lengthBytes: end - at, state: 'zero' });
    return extents;
  }

  async close(): Promise<void> {
    this.#pages.clear();
    this.#sorted = [];
  }

  /** Numbers of the pages held that touch the range, ascending. */
  #heldBetween(start: number, end: number): number[] {
    this.#sorted ??= [...this.#pages.keys()].sort((a, b) => a - b);
    const sorted = this.#sorted;
    const found: number[] = [];
    for (let at = firstAtLeast(sorted, Math.floor(start / PAGE_BYTES)); at < sorted.length; at++) {
      const number = sorted[at]!;
      if (number * PAGE_BYTES >= end) break;
      found.push(number);
    }
    return found;
  }
}

interface Part {
  readonly page: number;
  /** Range in the page. */
  readonly from: number;
  readonly to: number;
  /** Place in the caller's bytes. */
  readonly at: number;
}

function* parts(offsetBytes: number, lengthBytes: number): Generator<Part> {
  for (let at = 0; at < lengthBytes; ) {
    const page = Math.floor((offsetBytes + at) / PAGE_BYTES);
    const from = (offsetBytes + at) % PAGE_BYTES;
    const to = Math.min(PAGE_BYTES, from + lengthBytes - at);
    yield { page, from, to, at };
    at += to - from;
  }
}

/** Index of the first element that is not less than `least`. */
function firstAtLeast(sorted: readonly number[], least: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < least) low = middle + 1;
    else high = middle;
  }
  return low;
}
