// SPDX-License-Identifier: MIT
// What lies where in a container: frames and the manifest in a range of it, and whether the frame table says the same.

import { CHUNK_ENTRY_BYTES, EXTENT_HEADER_BYTES, FRAME_ENTRY_BYTES } from '../../../formats/vmar/extent.js';
import { FRAMES_PER_PAGE, type TableFrame } from '../../../formats/vmar/trailer.js';
import { bytesEqual } from '../../base/bytes.js';
import { DamageError, VmarError } from '../../base/errors.js';
import type { ContainerReader } from '../../store/container-reader.js';
import { readFrame } from '../chunk-reader.js';

export interface Range {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** What `read` gives; undefined where that is damaged. */
export function readable<Result>(read: () => Result): Result | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof DamageError) return undefined;
    throw error;
  }
}

/** Numbers of the frames whose stored bytes touch a range; not those of damaged pages of the frame table. */
export function framesIn(reader: ContainerReader, range: Range): number[] {
  const frames: number[] = [];
  const end = range.offsetBytes + range.lengthBytes;
  for (let frame = firstFrameEndingAfter(reader, range.offsetBytes); frame < reader.footer.frameCount; frame++) {
    const entry = readable(() => reader.frame(frame));
    if (entry === undefined) continue;
    if (entry.offsetBytes >= end) break;
    if (entry.offsetBytes + entry.storedBytes > range.offsetBytes) frames.push(frame);
  }
  return frames;
}

/** By halving, since frames are in the order of the file; 0 where a damaged page of the table is in the way. */
function firstFrameEndingAfter(reader: ContainerReader, offset: number): number {
  let low = 0;
  let high = reader.footer.frameCount;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = readable(() => reader.frame(middle));
    if (entry === undefined) return 0;
    if (entry.offsetBytes + entry.storedBytes > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** The digest of the container's manifest, if that lies in a range: the id by which it is remembered as damaged. */
export function manifestIn(reader: ContainerReader, { offsetBytes, lengthBytes }: Range): Uint8Array | undefined {
  const from = reader.footer.manifestExtentOffset;
  if (from === 0 || from >= offsetBytes + lengthBytes) return undefined;
  const extent = readable(() => reader.extentHead(from));
  if (extent === undefined) return from >= offsetBytes ? digestByFrame(reader, from) : undefined;
  const framesBytes = extent.frames.reduce((sum, frame) => sum + frame.storedBytes, 0);
  const to = from + EXTENT_HEADER_BYTES + CHUNK_ENTRY_BYTES + FRAME_ENTRY_BYTES + framesBytes;
  return to > offsetBytes ? extent.chunks[0]?.id : undefined;
}

/** Where the extent's head is damaged: its one frame ends with the digest. */
function digestByFrame(reader: ContainerReader, extentOffset: number): Uint8Array | undefined {
  for (let frame = 0; frame < reader.footer.frameCount; frame++) {
    const entry = readable(() => reader.frame(frame));
    if (entry === undefined || entry.offsetBytes < extentOffset) continue;
    return readable(() => readFrame(reader, entry).subarray(-DIGEST_BYTES));
  }
  return undefined;
}

const DIGEST_BYTES = 32;

/** Whole extents that were found good. */
export interface FrameComparison {
  readonly from: number;
  readonly to: number;
  /** The number of their first frame. */
  readonly firstFrame: number;
}

/** Numbers of the frames of which the frame table does not say what the extents say. Damaged pages of it say nothing. */
export function compareFrames(reader: ContainerReader, { from, to, firstFrame }: FrameComparison): number[] {
  const lying: number[] = [];
  let number = firstFrame;
  for (let offset = from; offset < to; ) {
    // What could be read a moment ago and cannot now is no lie of the table.
    const extent = readable(() => reader.extentHead(offset));
    if (extent === undefined) return lying;
    offset += EXTENT_HEADER_BYTES + extent.chunks.length * CHUNK_ENTRY_BYTES + extent.frames.length * FRAME_ENTRY_BYTES;
    for (const frame of extent.frames) {
      if (isLie(reader, number, { ...frame, offsetBytes: offset })) lying.push(number);
      offset += frame.storedBytes;
      number++;
    }
  }
  return lying;
}

function isLie(reader: ContainerReader, number: number, expected: TableFrame): boolean {
  if (number >= reader.footer.frameCount) return true;
  if (readable(() => reader.framePage(Math.floor(number / FRAMES_PER_PAGE))) === undefined) return false;
  let told: TableFrame;
  try {
    told = reader.frame(number);
  } catch (error) {
    if (error instanceof VmarError) return true;
    throw error;
  }
  const same =
    told.offsetBytes === expected.offsetBytes &&
    told.storedBytes === expected.storedBytes &&
    told.rawBytes === expected.rawBytes &&
    told.chunkCount === expected.chunkCount &&
    told.codec === expected.codec;
  return !(same && bytesEqual(told.seal, expected.seal));
}
