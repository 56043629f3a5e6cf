// SPDX-License-Identifier: MIT
// SPEC.md: what a reader refuses before it allocates.

export const PIECE_ALIGNMENT_BYTES = 65536;
export const MAX_HEAD_BYTES = 16 << 20;
export const MAX_END_BYTES = 4096;
/** Names of entries. */
export const HEAD_NAME = 'vmar.json';
export const END_NAME = 'end.json';
export const FORMAT_NAME = 'vmar-tar';
export const VERSION = 1;
