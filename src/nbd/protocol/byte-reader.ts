// SPDX-License-Identifier: MIT
// Reads fields of a received message one after the other, and refuses to read past its end.

import { asBuffer } from '../../base/bytes.js';
import { FailedError } from '../../base/errors.js';
import { MOST_STRING_BYTES } from './constants.js';

/** The peer broke the protocol. `object` is for the caller to add, who knows the peer. */
export function malformed(message: string, object?: string): FailedError {
  return new FailedError('nbd-protocol', message, object === undefined ? {} : { object });
}

/** u64 as a number: not exact above 2^53, which is larger than any device, so that range checks refuse it all the same. */
export function readUint64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}

export function writeUint64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  bytes.writeUInt32BE(value % 2 ** 32, at + 4);
}

const STRICT_UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class ByteReader {
  readonly #bytes: Buffer;
  readonly #what: string;
  #at = 0;

  /** @param what for messages: "a GO option" */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = asBuffer(bytes);
    this.#what = what;
  }

  get leftBytes(): number {
    return this.#bytes.length - this.#at;
  }

  uint16(): number {
    return this.#bytes.readUInt16BE(this.#take(2));
  }

  uint32(): number {
    return this.#bytes.readUInt32BE(this.#take(4));
  }

  /** See `readUint64` on large numbers. */
  uint64(): number {
    return readUint64(this.#bytes, this.#take(8));
  }

  /** A string of so many bytes: UTF-8, no NUL, not longer than the protocol allows. */
  text(lengthBytes: number): string {
    if (lengthBytes > MOST_STRING_BYTES) throw malformed(`a string of ${lengthBytes} bytes in ${this.#what}`);
    const start = this.#take(lengthBytes);
    const bytes = this.#bytes.subarray(start, start + lengthBytes);
    if (bytes.includes(0)) throw malformed(`a NUL in a string of ${this.#what}`);
    try {
      return STRICT_UTF8.decode(bytes);
    } catch {
      throw malformed(`a string that is not UTF-8 in ${this.#what}`);
    }
  }

  /** The bytes not read yet. */
  rest(): Buffer {
    const start = this.#take(this.leftBytes);
    return this.#bytes.subarray(start);
  }

  /** Throws unless all was read. */
  end(): void {
    if (this.leftBytes > 0) throw malformed(`${this.leftBytes} bytes too many in ${this.#what}`);
  }

  #take(lengthBytes: number): number {
    const start = this.#at;
    if (lengthBytes > this.leftBytes) throw malformed(`${this.#what} is cut short`);
    this.#at += lengthBytes;
    return start;
  }
}
