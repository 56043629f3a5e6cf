// SPDX-License-Identifier: MIT
// What the tables of an extent promise each other. The same checks guard encoding and decoding.

import { isSize } from '../../src/base/checked.js';
import type { ChunkEntry, Extent, FrameEntry } from './extent.js';
import { MAX_CHUNK_KIND } from './hash.js';
import { MAX_CHUNK_BYTES, MAX_FRAME_BYTES, MAX_MANIFEST_BYTES } from './limits.js';

/** What is wrong with the tables, or undefined. */
export function checkSums(extent: Pick<Extent, 'content' | 'chunks' | 'frames'>): string | undefined {
  const isEnvelope = extent.content > 2;
  const { chunks, frames } = extent;
  if (isEnvelope && (chunks.length !== 1 || frames.length !== 1)) return 'an envelope is one chunk in one frame';
  if (frames.length === 0) return 'there is no frame';
  let next = 0;
  for (const frame of frames) {
    const end = next + frame.chunkCount;
    if (frame.chunkCount < 1 || end > chunks.length) return 'a frame holds an impossible number of chunks';
    let rawBytes = 0;
    for (; next < end; next++) {
      const problem = checkChunk(chunks[next]!, extent.content);
      if (problem !== undefined) return problem;
      rawBytes += chunks[next]!.lengthBytes;
    }
    if (rawBytes !== frame.rawBytes) return 'the chunks of a frame do not add up to its length';
    const problem = frameProblem(frame, isEnvelope ? MAX_MANIFEST_BYTES : MAX_FRAME_BYTES);
    if (problem !== undefined) return problem;
  }
  return next === chunks.length ? undefined : 'there are chunks outside of the frames';
}

function checkChunk(chunk: ChunkEntry, content: Extent['content']): string | undefined {
  const { kind, lengthBytes } = chunk;
  const mostBytes = content > 2 ? MAX_MANIFEST_BYTES : MAX_CHUNK_BYTES;
  if (lengthBytes < 1 || lengthBytes > mostBytes) return `a chunk is ${lengthBytes} bytes long`;
  const isRight = content === 1 ? kind === 0 : content === 2 ? kind >= 1 && kind <= MAX_CHUNK_KIND : kind === 255;
  if (!isRight) return `a chunk of kind ${kind} does not belong there`;
  return isSize(chunk.where) ? undefined : 'a chunk lies past 2^53';
}

/** What is wrong with the lengths of a frame, or undefined. */
export function frameProblem(
  frame: Pick<FrameEntry, 'storedBytes' | 'rawBytes' | 'codec'>,
  mostBytes: number,
): string | undefined {
  const { storedBytes, rawBytes, codec } = frame;
  if (rawBytes < 1 || rawBytes > mostBytes) return `a frame of ${rawBytes} raw bytes`;
  const fits = codec === 0 ? storedBytes === rawBytes : storedBytes >= 1 && storedBytes < rawBytes;
  return fits ? undefined : `a frame of codec ${codec} stores ${rawBytes} bytes in ${storedBytes}`;
}
