// SPDX-License-Identifier: MIT
// Byte arrays: comparison, hex, concatenation. Data is Uint8Array everywhere; Buffer is used only for its methods.

/** A Buffer over the same memory, for its fast methods; nothing is copied. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function toHex(bytes: Uint8Array): string {
  return asBuffer(bytes).toString('hex');
}

/** The bytes of a hex string of exactly `length` bytes, or undefined. */
export function fromHex(text: string, length: number): Uint8Array | undefined {
  if (text.length !== length * 2 || !/^[0-9a-f]*$/.test(text)) return undefined;
  return Buffer.from(text, 'hex');
}

export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && asBuffer(a).equals(b);
}

/** Negative, zero or positive, by unsigned bytes. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

const ZEROS = Buffer.alloc(1 << 20);

/** True if every byte is zero. Compares with a constant block, at memory speed. */
export function isAllZero(bytes: Uint8Array): boolean {
  const buffer = asBuffer(bytes);
  for (let at = 0; at < buffer.length; at += ZEROS.length) {
    const end = Math.min(buffer.length, at + ZEROS.length);
    if (buffer.compare(ZEROS, 0, end - at, at, end) !== 0) return false;
  }
  return true;
}
