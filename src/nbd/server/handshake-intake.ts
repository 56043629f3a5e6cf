// SPDX-License-Identifier: MIT
// Cuts what a client sends in the handshake into its flags and options, however the bytes arrive.

import { CLIENT_FLAGS_BYTES, OPTION_HEADER_BYTES } from '../protocol/constants.js';
import { decodeOptionHeader } from '../protocol/handshake.js';

export type HandshakePiece =
  | { readonly kind: 'flags'; readonly flags: number }
  | { readonly kind: 'option'; readonly option: number; readonly data: Buffer }
  /** Its data are longer than the limit, and were thrown away. */
  | { readonly kind: 'too-long'; readonly option: number };

type State =
  | { readonly name: 'flags' }
  | { readonly name: 'header' }
  | { readonly name: 'data'; readonly option: number; readonly lengthBytes: number }
  | { readonly name: 'skipping'; readonly option: number; leftBytes: number };

export class HandshakeIntake {
  readonly #mostOptionBytes: number;
  #state: State;
  /** What arrived and is not used yet, in pieces: joined only when there is enough for what is next. */
  #chunks: Buffer[] = [];
  #heldBytes = 0;

  /** @param begin 'header' after TLS was started: the client's flags are not sent again. */
  constructor(mostOptionBytes: number, begin: 'flags' | 'header') {
    this.#mostOptionBytes = mostOptionBytes;
    this.#state = { name: begin };
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#heldBytes += chunk.length;
  }

  /** Bytes that no piece was made of. */
  rest(): Buffer {
    const rest = Buffer.concat(this.#chunks);
    this.#chunks = [];
    this.#heldBytes = 0;
    return rest;
  }

  /** The next whole piece; undefined until more arrives. Throws FailedError 'nbd-protocol' when there can be none. */
  next(): HandshakePiece | undefined {
    for (;;) {
      switch (this.#state.name) {
        case 'flags': {
          const bytes = this.#take(CLIENT_FLAGS_BYTES);
          if (bytes === undefined) return undefined;
          this.#state = { name: 'header' };
          return { kind: 'flags', flags: bytes.readUInt32BE(0) };
        }
        case 'header': {
          const bytes = this.#take(OPTION_HEADER_BYTES);
          if (bytes === undefined) return undefined;
          const { option, lengthBytes } = decodeOptionHeader(bytes);
          if (lengthBytes > this.#mostOptionBytes) this.#state = { name: 'skipping', option, leftBytes: lengthBytes };
          else this.#state = { name: 'data', option, lengthBytes };
          break;
        }
        case 'data': {
          const data = this.#take(this.#state.lengthBytes);
          if (data === undefined) return undefined;
          const { option } = this.#state;
          this.#state = { name: 'header' };
          return { kind: 'option', option, data };
        }
        case 'skipping': {
          const skipped = this.#take(Math.min(this.#state.leftBytes, this.#heldBytes));
          this.#state.leftBytes -= skipped?.length ?? 0;
          if (this.#state.leftBytes > 0) return undefined;
          const { option } = this.#state;
          this.#state = { name: 'header' };
          return { kind: 'too-long', option };
        }
      }
    }
  }

  #take(lengthBytes: number): Buffer | undefined {
    if (this.#heldBytes < lengthBytes) return undefined;
    const held = this.rest();
    this.add(held.subarray(lengthBytes));
    return held.subarray(0, lengthBytes);
  }
}
