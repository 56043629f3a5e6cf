// SPDX-License-Identifier: MIT
// Bytes for tests, the same in every run.

/** Bytes that do not compress, drawn from a seed. */
export function noise(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let at = 0; at < length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[at] = state;
  }
  return bytes;
}

/** Bytes that compress, never all zero. */
export function text(length: number, seed = 1): Buffer {
  return Buffer.alloc(length, `line ${seed} of a log that says much the same again and again; `);
}
