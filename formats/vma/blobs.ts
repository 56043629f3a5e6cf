// SPDX-License-Identifier: MIT
// The blob buffer of the header: configs and names, found by pointers (SPEC.md §2.2).

const LENGTH_BYTES = 2;
/** Pointer 0 is none, so the first byte of the buffer is padding. */
const FIRST_BLOB_AT = 1;

/**
 * The blobs that the pointers name. Only what a walk from blob to blob meets is one; a pointer to elsewhere, or to a
 * blob that reaches past the end of the buffer, has no entry. Memory follows the pointers, however many blobs there are.
 */
export function findBlobs(buffer: Uint8Array, pointers: ReadonlySet<number>): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  let at = FIRST_BLOB_AT;
  while (at + LENGTH_BYTES <= buffer.byteLength) {
    // Little-endian, unlike everything else.
    const length = (buffer[at] ?? 0) | ((buffer[at + 1] ?? 0) << 8);
    const end = at + LENGTH_BYTES + length;
    if (end <= buffer.byteLength && pointers.has(at)) found.set(at, buffer.subarray(at + LENGTH_BYTES, end));
    at = end;
  }
  return found;
}

/** Fills a blob buffer. */
export class BlobBuffer {
  readonly #parts: Uint8Array[] = [Uint8Array.of(0)];
  #lengthBytes = FIRST_BLOB_AT;

  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  /** Gives the pointer to it. Callers keep to MAX_BLOB_BYTES. */
  add(content: Uint8Array): number {
    const pointer = this.#lengthBytes;
    this.#parts.push(Uint8Array.of(content.byteLength & 0xff, content.byteLength >>> 8), content);
    this.#lengthBytes += LENGTH_BYTES + content.byteLength;
    return pointer;
  }

  copyTo(target: Uint8Array, at: number): void {
    let next = at;
    for (const part of this.#parts) {
      target.set(part, next);
      next += part.byteLength;
    }
  }
}
