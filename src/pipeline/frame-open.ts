// SPDX-License-Identifier: MIT
// From stored bytes to checked raw bytes: what restore and verify share.

import { type HashName, sealer } from '../../formats/vmar/hash.js';
import { bytesEqual } from '../base/bytes.js';
import { decompressWhole, type Implementation, Scratch } from './thread-tools.js';

export interface StoredFrame {
  readonly rawBytes: number;
  readonly codec: number;
  /** 16 bytes. */
  readonly seal: Uint8Array;
}

const rawBytesScratch = new Scratch();

/**
 * Checks the seal of a frame's stored bytes and gives its raw bytes, valid until the next call; or what is wrong with
 * it. `rawBytes` must have been checked against the limits.
 */
export function openFrame(
  frame: StoredFrame,
  stored: Buffer,
  hash: HashName,
  implementation: Implementation,
  alignment: 1 | 4096 = 1,
): Buffer | 'seal' | 'decompress' {
  if (!bytesEqual(sealer(hash, implementation)(stored), frame.seal)) return 'seal';
  if (frame.codec === 0) return stored.byteLength === frame.rawBytes ? stored : 'decompress';
  if (frame.codec !== 1) return 'decompress';
  const raw = rawBytesScratch.take(frame.rawBytes, alignment);
  return decompressWhole(stored, raw) ? raw : 'decompress';
}
