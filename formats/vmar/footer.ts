// SPDX-License-Identifier: MIT
// The last 128 bytes of a container (SPEC.md §4.3).

import { asBuffer, bytesEqual } from '../../src/base/bytes.js';
import { CONTAINER_HEADER_BYTES } from './container-header.js';
import { CHUNK_ENTRY_BYTES, CONTAINER_ID_BYTES, EXTENT_HEADER_BYTES, FRAME_ENTRY_BYTES } from './extent.js';
import { checkLength, getSize, isZeroField, putBytes, putSize, refusalOf, required } from './fields.js';
import { type HashName, SEAL_BYTES, sealer } from './hash.js';
import { MAX_CHUNK_BYTES, MAX_EXTENT_CHUNKS, MAX_EXTENT_FRAMES } from './limits.js';
import { CHUNKS_PER_PAGE, FRAMES_PER_PAGE, TABLE_CHUNK_BYTES, TABLE_FRAME_BYTES, tableBytes } from './table.js';

export const FOOTER_BYTES = 128;
export const FOOTER_MAGIC = 'VMARTAIL';
const SEAL_AT = FOOTER_BYTES - SEAL_BYTES;

export interface Footer {
  /** 16 bytes. */
  readonly containerId: Uint8Array;
  /** Entries of the chunk table. */
  readonly chunkCount: number;
  /** Entries of the frame table. */
  readonly frameCount: number;
  /** Also the end of the last extent. */
  readonly chunkTableOffset: number;
  readonly frameTableOffset: number;
  /** Length of the whole container. */
  readonly fileBytes: number;
  /** 0 = none. */
  readonly manifestExtentOffset: number;
  readonly extentCount: number;
  /** Of all chunks in the chunk table. */
  readonly rawBytes: number;
}

export interface FooterContext {
  readonly object: string;
  readonly containerId?: Uint8Array;
  /** Length of the file that the footer ends. */
  readonly fileBytes: number;
}

export function encodeFooter(footer: Footer, hash: HashName): Uint8Array {
  const problem = footerProblem(footer);
  required(problem === undefined, `a sound footer (${problem})`);
  const bytes = Buffer.alloc(FOOTER_BYTES);
  bytes.write(FOOTER_MAGIC, 0, 'latin1');
  putBytes(bytes, 8, footer.containerId, CONTAINER_ID_BYTES);
  putSize(bytes, 24, footer.chunkCount);
  putSize(bytes, 32, footer.frameCount);
  putSize(bytes, 40, footer.chunkTableOffset);
  putSize(bytes, 48, footer.frameTableOffset);
  putSize(bytes, 56, footer.fileBytes);
  putSize(bytes, 64, footer.manifestExtentOffset);
  bytes.writeUInt32LE(footer.extentCount, 72);
  putSize(bytes, 80, footer.rawBytes);
  bytes.set(sealer(hash)(bytes.subarray(0, SEAL_AT)), SEAL_AT);
  return bytes;
}

/**
 * Checks the seal, and every count and offset against the length of the file.
 * @throws DamageError
 */
export function decodeFooter(last128: Uint8Array, hash: HashName, context: FooterContext): Footer {
  const offsetBytes = Math.max(0, context.fileBytes - FOOTER_BYTES);
  const refuse = refusalOf('footer-damaged', { object: context.object, offsetBytes });
  checkLength(last128, FOOTER_BYTES, 'the footer', refuse);
  const bytes = asBuffer(last128);
  if (bytes.toString('latin1', 0, 8) !== FOOTER_MAGIC) {
    throw refuse('the container does not end with a footer: it was cut off, or something follows it');
  }
  const seal = sealer(hash)(bytes.subarray(0, SEAL_AT));
  if (!bytesEqual(seal, bytes.subarray(SEAL_AT, FOOTER_BYTES))) throw refuse('the seal of the footer does not match');
  const footer = readFooter(bytes);
  if (context.containerId !== undefined && !bytesEqual(context.containerId, footer.containerId)) {
    throw refuse('the footer is of another container');
  }
  if (!isZeroField(bytes, 76, 80) || !isZeroField(bytes, 88, SEAL_AT)) {
    throw refuse('the footer is not zero where it must be');
  }
  if (footer.fileBytes !== context.fileBytes) {
    const facts = { expected: `${context.fileBytes} bytes`, found: `${footer.fileBytes} bytes` };
    throw refuse('the footer tells another length than the file has', facts);
  }
  const problem = footerProblem(footer);
  if (problem !== undefined) throw refuse(`the footer contradicts itself: ${problem}`);
  return footer;
}

function readFooter(bytes: Buffer): Footer {
  return {
    containerId: bytes.subarray(8, 8 + CONTAINER_ID_BYTES),
    chunkCount: getSize(bytes, 24),
    frameCount: getSize(bytes, 32),
    chunkTableOffset: getSize(bytes, 40),
    frameTableOffset: getSize(bytes, 48),
    fileBytes: getSize(bytes, 56),
    manifestExtentOffset: getSize(bytes, 64),
    extentCount: bytes.readUInt32LE(72),
    rawBytes: getSize(bytes, 80),
  };
}

/** What is wrong with the numbers, or undefined. Infinity, for a number past 2^53 − 1, fails every check. */
function footerProblem(footer: Footer): string | undefined {
  const { chunkCount, frameCount, extentCount, chunkTableOffset, frameTableOffset, fileBytes, rawBytes } = footer;
  // Each chunk and frame takes an entry in an extent: this bounds the counts before anything is computed from them.
  const leastExtentBytes =
    extentCount * EXTENT_HEADER_BYTES + chunkCount * CHUNK_ENTRY_BYTES + frameCount * (FRAME_ENTRY_BYTES + 1);
  if (!(chunkTableOffset <= fileBytes)) return 'the tables lie past its end';
  if (!(leastExtentBytes + CONTAINER_HEADER_BYTES <= chunkTableOffset)) return 'its extents do not fit in it';
  if (frameCount < extentCount || frameCount > extentCount * MAX_EXTENT_FRAMES) return 'frames without extents';
  if (chunkCount > extentCount * MAX_EXTENT_CHUNKS) return 'chunks without extents';
  const chunkTableBytes = tableBytes(chunkCount, TABLE_CHUNK_BYTES, CHUNKS_PER_PAGE);
  if (frameTableOffset !== chunkTableOffset + chunkTableBytes) return 'the chunk table has another length';
  const frameTableBytes = tableBytes(frameCount, TABLE_FRAME_BYTES, FRAMES_PER_PAGE);
  if (fileBytes !== frameTableOffset + frameTableBytes + FOOTER_BYTES) return 'the frame table has another length';
  if (!(rawBytes >= chunkCount && rawBytes <= chunkCount * MAX_CHUNK_BYTES)) return 'the chunks have another length';
  const manifestEnd = footer.manifestExtentOffset + EXTENT_HEADER_BYTES + CHUNK_ENTRY_BYTES + FRAME_ENTRY_BYTES;
  if (footer.manifestExtentOffset === 0) return undefined;
  if (footer.manifestExtentOffset < CONTAINER_HEADER_BYTES || manifestEnd >= chunkTableOffset) {
    return 'the manifest lies outside of the extents';
  }
  return undefined;
}
