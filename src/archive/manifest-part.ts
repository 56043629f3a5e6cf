// SPDX-License-Identifier: MIT
// A manifest as a frame of its own: the copy in a backup's last pack, the manifest and the prologue of an archive.

import zstd from 'zstd-napi/binding.js';
import { type HashName, sealer } from '../../formats/vmar/hash.js';
import type { FramePart } from '../store/container-writer.js';

const LEVEL = 3;
/** Kind of the chunk in extents that hold a manifest. */
export const MANIFEST_KIND = 255;
/** An envelope ends with its digest, which is the chunk's id. */
const DIGEST_BYTES = 32;

export function manifestPart(envelope: Uint8Array, hash: HashName): FramePart {
  const squeezed = Buffer.alloc(zstd.compressBound(envelope.byteLength));
  const length = new zstd.CCtx().compress(squeezed, envelope, LEVEL);
  const pays = length < envelope.byteLength;
  const bytes = pays ? squeezed.subarray(0, length) : envelope;
  const entry = {
    codec: pays ? (1 as const) : (0 as const),
    storedBytes: bytes.byteLength,
    rawBytes: envelope.byteLength,
    chunkCount: 1,
    seal: sealer(hash)(bytes),
  };
  const id = envelope.subarray(envelope.byteLength - DIGEST_BYTES);
  const chunk = { id, lengthBytes: envelope.byteLength, kind: MANIFEST_KIND, disk: 65535, where: 0 };
  return { entry, bytes, chunks: [chunk] };
}
