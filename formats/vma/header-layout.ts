// SPDX-License-Identifier: MIT
// Where the fields of the header stand (SPEC.md §2).

export const HEADER_MAGIC: Uint8Array = Uint8Array.of(0x56, 0x4d, 0x41, 0x00);
export const VERSION = 1;
/** What must have come before the length of the header is known. */
export const HEADER_START_BYTES = 60;
/** In the reserved bytes of a device: "vmarsize" and the true length. */
export const TRUE_SIZE_MARK: Uint8Array = Buffer.from('vmarsize', 'latin1');

/** Offsets in the header; of the device's fields, in its 32 bytes. */
export const HEADER_AT = {
  version: 4,
  uuid: 8,
  time: 24,
  md5: 32,
  blobOffset: 48,
  blobSize: 52,
  headerSize: 56,
  configNames: 2044,
  configData: 3068,
  devices: 4096,
  deviceBytes: 32,
  deviceSize: 8,
  deviceMark: 16,
} as const;
