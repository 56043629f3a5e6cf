// SPDX-License-Identifier: MIT
// Changes sealed structures and seals them again: what a later version, or someone who means harm, would have written.

import { createHasher, type HashName, sealer } from '#vmar/formats/vmar/hash.js';

const HEADER_SEAL_AT = 240;

/** The header of a container with some bytes changed, its seal right. */
export function resealHeader(
  container: Uint8Array,
  change: (header: Buffer) => void,
  hash: HashName = 'blake3',
): Buffer {
  const bytes = Buffer.from(container);
  change(bytes.subarray(0, HEADER_SEAL_AT));
  bytes.set(sealer(hash)(bytes.subarray(0, HEADER_SEAL_AT)), HEADER_SEAL_AT);
  return bytes;
}

/** The footer of a container with some bytes changed, its seal right. */
export function resealFooter(
  container: Uint8Array,
  change: (footer: Buffer) => void,
  hash: HashName = 'blake3',
): Buffer {
  const bytes = Buffer.from(container);
  const footer = bytes.subarray(-128);
  change(footer);
  footer.set(sealer(hash)(footer.subarray(0, 112)), 112);
  return bytes;
}

/** An envelope with some bytes changed, its digest right. */
export function resealEnvelope(
  envelope: Uint8Array,
  context: 'manifest' | 'seal',
  change: (bytes: Buffer) => void,
  hash: HashName = 'blake3',
): Buffer {
  const bytes = Buffer.from(envelope);
  const end = bytes.length - 32;
  change(bytes.subarray(0, end));
  bytes.set(createHasher(hash, context).digest(bytes.subarray(0, end)), end);
  return bytes;
}
