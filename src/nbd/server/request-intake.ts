// SPDX-License-Identifier: MIT
// Cuts what a client sends into requests and payloads. Payloads are copied once, from the chunk that the socket gave
// into memory of the pool.

import { COMMAND, REQUEST_BYTES } from '../protocol/constants.js';
import { decodeRequest, type NbdRequest } from '../protocol/requests.js';

export interface IntakeHandler {
  /**
   * A header has arrived. 'wait': there is no room for it now; it is offered again when parsing goes on. 'stop': nothing
   * more is to be read. Otherwise it is taken; for WRITE the answer says where its payload goes, or that it is skipped.
   */
  onRequest(request: NbdRequest): 'wait' | 'stop' | 'taken' | 'skip' | Buffer;
  /** The payload of a WRITE is in the buffer that `onRequest` gave, whole. */
  onPayload(request: NbdRequest, payload: Buffer): void;
}

export class RequestIntake {
  readonly #handler: IntakeHandler;
  readonly #header = Buffer.alloc(REQUEST_BYTES);
  #headerBytes = 0;
  /** The request that waits for room, or whose payload is under way. */
  #request: NbdRequest | undefined;
  #payload: Buffer | undefined;
  #payloadBytes = 0;
  #skipBytes = 0;
  /** What could not be parsed while there was no room. */
  #rest: Buffer | undefined;
  #stopped = false;

  constructor(handler: IntakeHandler) {
    this.#handler = handler;
  }

  /** A WRITE whose payload is not complete, when the client is gone: who made room for it takes it back. */
  get unfinished(): NbdRequest | undefined {
    return this.#payload === undefined ? undefined : this.#request;
  }

  /** False: there is no room, and nothing more is to be given until `resume` says true. Throws 'nbd-protocol' errors. */
  add(chunk: Buffer): boolean {
    if (this.#rest !== undefined) {
      this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
      return false;
    }
    return this.#parse(chunk);
  }

  /** Goes on with what was left. */
  resume(): boolean {
    const rest = this.#rest;
    if (rest === undefined) return true;
    this.#rest = undefined;
    return this.#parse(rest);
  }

  #parse(chunk: Buffer): boolean {
    let at = 0;
    while (!this.#stopped) {
      if (this.#payload !== undefined) {
        at += this.#fill(this.#payload, chunk, at);
        if (this.#payload !== undefined) return true;
      } else if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, chunk.length - at);
        this.#skipBytes -= skipped;
        at += skipped;
        if (this.#skipBytes > 0) return true;
      }
      if (this.#request === undefined) {
        at = this.#readHeader(chunk, at);
        if (this.#request === undefined) return true;
      }
      if (!this.#offer(this.#request)) {
        this.#rest = chunk.subarray(at);
        return false;
      }
    }
    return true;
  }

  /** Sets `#request` if there is a whole header; the answer is where parsing goes on. */
  #readHeader(chunk: Buffer, at: number): number {
    if (this.#headerBytes === 0 && chunk.length - at >= REQUEST_BYTES) {
      this.#request = decodeRequest(chunk, at);
      return at + REQUEST_BYTES;
    }
    const copied = chunk.copy(this.#header, this.#headerBytes, at);
    this.#headerBytes += copied;
    if (this.#headerBytes === REQUEST_BYTES) {
      this.#headerBytes = 0;
      this.#request = decodeRequest(this.#header, 0);
    }
    return at + copied;
  }

  /** False where there is no room. */
  #offer(request: NbdRequest): boolean {
    const answer = this.#handler.onRequest(request);
    if (answer === 'wait') return false;
    if (answer instanceof Buffer) {
      this.#payload = answer;
      this.#payloadBytes = 0;
      return true;
    }
    this.#request = undefined;
    if (answer === 'stop') this.#stopped = true;
    if (answer === 'skip' && request.type === COMMAND.write) this.#skipBytes = request.lengthBytes;
    return true;
  }

  /** How many bytes of the chunk went into the payload. */
  #fill(payload: Buffer, chunk: Buffer, at: number): number {
    const copied = chunk.copy(payload, this.#payloadBytes, at);
    this.#payloadBytes += copied;
    const request = this.#request;
    if (this.#payloadBytes === payload.length && request !== undefined) {
      this.#payload = undefined;
      this.#request = undefined;
      this.#handler.onPayload(request, payload);
    }
    return copied;
  }
}
