// SPDX-License-Identifier: MIT
// Finds the next extent behind a damaged one.

import { decodeExtentHead, decodeExtentHeader, EXTENT_HEADER_BYTES, type Extent } from '../../formats/vmar/extent.js';
import type { HashName } from '../../formats/vmar/hash.js';
import { DamageError } from '../base/errors.js';
import type { FileWindow } from './file-window.js';

/** Where extents are looked for. */
export interface ExtentPlace {
  readonly object: string;
  readonly hash: HashName;
  readonly containerId: Uint8Array;
  /** End of the extents. */
  readonly to: number;
}

export interface FoundExtent {
  readonly extent: Extent;
  readonly headBytes: number;
  readonly totalBytes: number;
}

/** Why there is no extent at an offset. */
export interface NoExtent {
  readonly kind: 'extent' | 'read-error';
  readonly problem: string;
}

const CONTAINER_ID_AT = 8;
const OFFSET_AT = 24;
const STEP_BYTES = 1 << 20;
/** What cannot be read is passed over in these. */
const SKIP_BYTES = 4096;

/** Header and tables at an offset, checked; with `sequence`, only the extent of that number. */
export function readExtent(
  window: FileWindow,
  place: ExtentPlace,
  offset: number,
  sequence?: number,
): FoundExtent | NoExtent {
  const left = place.to - offset;
  if (left < EXTENT_HEADER_BYTES) return { kind: 'extent', problem: `an extent is cut off after ${left} bytes` };
  const context = { object: place.object, containerId: place.containerId, offsetBytes: offset };
  try {
    const first = window.view(offset, EXTENT_HEADER_BYTES);
    if (first === undefined) return UNREADABLE;
    const told = sequence === undefined ? context : { ...context, sequence };
    const { headBytes, totalBytes } = decodeExtentHeader(first, told);
    if (totalBytes > left) return { kind: 'extent', problem: 'an extent reaches past the end of the extents' };
    const head = window.view(offset, headBytes);
    if (head === undefined) return UNREADABLE;
    // A copy: the values may be views of it, and the window moves on.
    return { extent: decodeExtentHead(Buffer.from(head), place.hash, told), headBytes, totalBytes };
  } catch (error) {
    if (error instanceof DamageError) return { kind: 'extent', problem: error.message };
    throw error;
  }
}

const UNREADABLE: NoExtent = { kind: 'read-error', problem: 'the head of an extent cannot be read' };

/** The offset of the first valid extent of this container at or after `from`, or `place.to`. */
export function findExtent(window: FileWindow, place: ExtentPlace, from: number): number {
  for (let at = from; at + EXTENT_HEADER_BYTES <= place.to; ) {
    const length = Math.min(STEP_BYTES, place.to - at);
    const block = window.upTo(at, length);
    for (const candidate of candidates(block, at, place.containerId)) {
      if ('extent' in readExtent(window, place, candidate)) return candidate;
    }
    if (block.byteLength < length) at += block.byteLength + SKIP_BYTES;
    // The next block overlaps by a header, less one byte: a header that this block cuts is whole in the next.
    else at += length - EXTENT_HEADER_BYTES + 1;
  }
  return place.to;
}

/** Offsets of headers in a block, whose first byte lies at `base`, that name the container and their own offset. */
function candidates(block: Buffer, base: number, containerId: Uint8Array): number[] {
  const found: number[] = [];
  for (let id = block.indexOf(containerId); id !== -1; id = block.indexOf(containerId, id + 1)) {
    const header = id - CONTAINER_ID_AT;
    if (header < 0 || header + EXTENT_HEADER_BYTES > block.byteLength) continue;
    if (block.readBigUInt64LE(header + OFFSET_AT) === BigInt(base + header)) found.push(base + header);
  }
  return found;
}
